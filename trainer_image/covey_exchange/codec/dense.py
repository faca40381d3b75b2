"""No selection: magic, then every tensor's values, float32 or float16, little-endian, in the manifest's order.

Canonical because values are finite and zeros are positive. What float16 rounds away stays in the error feedback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from covey_exchange.codec.errors import NonCanonical, NonFinite, TrailingBytes, WrongLength
from covey_exchange.codec.update import Update
from covey_exchange.manifest import Array, Manifest

MAGIC = {"<f4": b"CVD\x01", "<f2": b"CVH\x01"}


@dataclass(frozen=True)
class Dense:
    """The codec for one model."""

    manifest: Manifest
    dtype: Literal["<f4", "<f2"] = "<f4"

    @property
    def max_bytes(self) -> int:
        """The length of every update."""
        return len(self._magic) + self.manifest.parameters * np.dtype(self.dtype).itemsize

    def compress(self, values: Mapping[str, Array]) -> tuple[bytes, Update]:
        """The blob of finite float32 tensors, and what it stands for; what is too large becomes the largest."""
        parts, sent = [self._magic], {}
        for tensor in self.manifest:
            value = values[tensor.name] + np.float32(0)  # -0 + 0 = +0
            if self.dtype == "<f2":
                largest = np.float32(np.finfo(np.float16).max)
                value = np.clip(value, -largest, largest).astype("<f2") + np.float16(0)
            parts.append(value.astype(self.dtype).tobytes())
            sent[tensor.name] = np.asarray(value, dtype=np.float32)
        return b"".join(parts), sent

    def decode(self, payload: bytes | memoryview, site: str) -> Update:
        """Inverse of `compress`; raises a `DecodeError` for anything that `compress` cannot have made."""
        if len(payload) != self.max_bytes:
            kind = WrongLength if len(payload) < self.max_bytes else TrailingBytes
            raise kind(site, None, f"{len(payload)} bytes, {self.max_bytes} are needed")
        if payload[: len(self._magic)] != self._magic:
            raise NonCanonical(site, None, f"begins with {payload[:4].hex()}, not {self._magic.hex()}")
        decoded: dict[str, Array] = {}
        offset = len(self._magic)
        for tensor in self.manifest:
            flat = np.frombuffer(payload, dtype=self.dtype, count=tensor.elements, offset=offset).astype(np.float32)
            if not np.isfinite(flat).all():
                raise NonFinite(site, tensor.name, f"element {int(np.flatnonzero(~np.isfinite(flat))[0])}")
            if bool(((flat == 0) & np.signbit(flat)).any()):
                raise NonCanonical(site, tensor.name, "a zero has a negative sign")
            decoded[tensor.name] = flat.reshape(tensor.shape)
            offset += tensor.elements * np.dtype(self.dtype).itemsize
        return decoded

    @property
    def _magic(self) -> bytes:
        return MAGIC[self.dtype]
