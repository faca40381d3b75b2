"""No compression: magic, then every tensor's float32 values, little-endian, in the manifest's order.

Canonical because values are finite and zeros are positive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from covey_exchange.codec.errors import NonCanonical, NonFinite, TrailingBytes, WrongLength
from covey_exchange.codec.update import Update
from covey_exchange.manifest import Array, Manifest

MAGIC = b"CVD\x01"
VALUE_BYTES = 4


@dataclass(frozen=True)
class Dense:
    """The codec for one model."""

    manifest: Manifest

    @property
    def max_bytes(self) -> int:
        """The length of every update."""
        return len(MAGIC) + self.manifest.parameters * VALUE_BYTES

    def compress(self, values: Mapping[str, Array]) -> tuple[bytes, Update]:
        """The blob of finite float32 tensors, and what it stands for: the same tensors."""
        sent = {tensor.name: np.asarray(values[tensor.name] + np.float32(0)) for tensor in self.manifest}  # -0 + 0 = +0
        return b"".join((MAGIC, *(part.astype("<f4").tobytes() for part in sent.values()))), sent

    def decode(self, payload: bytes, site: str) -> Update:
        """Inverse of `compress`; raises a `DecodeError` for anything that `compress` cannot have made."""
        if len(payload) != self.max_bytes:
            kind = WrongLength if len(payload) < self.max_bytes else TrailingBytes
            raise kind(site, None, f"{len(payload)} bytes, {self.max_bytes} are needed")
        if payload[: len(MAGIC)] != MAGIC:
            raise NonCanonical(site, None, f"begins with {payload[: len(MAGIC)].hex()}, not {MAGIC.hex()}")
        decoded: dict[str, Array] = {}
        offset = len(MAGIC)
        for tensor in self.manifest:
            flat = np.frombuffer(payload, dtype="<f4", count=tensor.elements, offset=offset).astype(np.float32)
            if not np.isfinite(flat).all():
                raise NonFinite(site, tensor.name, f"element {int(np.flatnonzero(~np.isfinite(flat))[0])}")
            if bool(((flat == 0) & np.signbit(flat)).any()):
                raise NonCanonical(site, tensor.name, "a zero has a negative sign")
            decoded[tensor.name] = flat.reshape(tensor.shape)
            offset += tensor.elements * VALUE_BYTES
        return decoded
