"""All values with 8 bits: magic; for each tensor in the manifest's order its scales and its values, or half precision.

A tensor is cut into chunks of 4096; each has a scale s (float32, 16 significant bits) and values q = round(x / s), one
byte each, -127 to 127. Tensors of less than 64 elements travel in half precision.

There is one blob for an update: in every chunk the largest |q| is 127, or s and all q are zero. As 127 s is exact in
float32 (23 bits), the largest value of a chunk tells its scale, and every q s its q. What rounding loses stays in the
error feedback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec import half
from covey_exchange.codec.errors import NonCanonical, NonFinite, TrailingBytes, WrongLength
from covey_exchange.codec.update import Update
from covey_exchange.manifest import Array, Manifest, TensorSpec

MAGIC = b"CVB\x01"
CHUNK = 4096
DENSE_BELOW_ELEMENTS = 64
LARGEST = 127
SCALE_BYTES = 4

_LOW_BITS = np.uint32(0xFF)  # of a scale: zero
_SCALE_MIN = np.float32(np.finfo(np.float32).smallest_normal)
_SCALE_MAX = np.uint32(np.float32(np.finfo(np.float32).max / LARGEST).view(np.uint32) & ~_LOW_BITS).view(np.float32)


@dataclass(frozen=True)
class Int8:
    """The codec for one model."""

    manifest: Manifest

    @property
    def max_bytes(self) -> int:
        """The length of every update."""
        return len(MAGIC) + sum(_bytes(tensor) for tensor in self.manifest)

    def compress(self, values: Mapping[str, Array]) -> tuple[bytes, Update]:
        """The blob of finite float32 tensors, and what it stands for."""
        parts: list[bytes] = [MAGIC]
        sent: dict[str, Array] = {}
        for tensor in self.manifest:
            flat = values[tensor.name].reshape(-1)
            if tensor.elements < DENSE_BELOW_ELEMENTS:
                data, kept = half.write(flat)
                parts.append(data)
            else:
                scales = _scales(flat)
                each = _spread(scales, tensor.elements)
                with np.errstate(divide="ignore", invalid="ignore"):
                    quotient = np.where(each > 0, np.rint(flat / each), np.float32(0))
                numbers = np.clip(quotient, -LARGEST, LARGEST).astype(np.int8)
                parts += [scales.astype("<f4").tobytes(), numbers.tobytes()]
                kept = numbers * each
            sent[tensor.name] = kept.reshape(tensor.shape)
        return b"".join(parts), sent

    def decode(self, payload: bytes | memoryview, site: str) -> Update:
        """Inverse of `compress`; raises a `DecodeError` for anything that `compress` cannot have made."""
        if len(payload) != self.max_bytes:
            kind = WrongLength if len(payload) < self.max_bytes else TrailingBytes
            raise kind(site, None, f"{len(payload)} bytes, {self.max_bytes} are needed")
        if payload[: len(MAGIC)] != MAGIC:
            raise NonCanonical(site, None, f"begins with {payload[: len(MAGIC)].hex()}, not {MAGIC.hex()}")
        decoded: dict[str, Array] = {}
        offset = len(MAGIC)
        for tensor in self.manifest:
            end = offset + _bytes(tensor)
            read = half.read if tensor.elements < DENSE_BELOW_ELEMENTS else _read
            decoded[tensor.name] = read(payload[offset:end], tensor, site)
            offset = end
        return decoded


def _bytes(tensor: TensorSpec) -> int:
    if tensor.elements < DENSE_BELOW_ELEMENTS:
        return tensor.elements * half.HALF_BYTES
    return _chunks(tensor.elements) * SCALE_BYTES + tensor.elements


def _chunks(elements: int) -> int:
    return -(-elements // CHUNK)


def _starts(elements: int) -> NDArray[np.int64]:
    return np.arange(0, elements, CHUNK, dtype=np.int64)


def _spread(scales: Array, elements: int) -> Array:
    return np.repeat(scales, CHUNK)[:elements]


def _scales(flat: Array) -> Array:
    """Largest magnitude / 127 of each chunk, rounded to 16 significant bits; zero where it is not a normal number."""
    quotients = np.maximum.reduceat(np.abs(flat), _starts(flat.size)) / np.float32(LARGEST)
    rounded = ((quotients.view(np.uint32) + np.uint32(0x80)) & ~_LOW_BITS).view(np.float32)
    return np.where(quotients < _SCALE_MIN, np.float32(0), np.minimum(rounded, _SCALE_MAX))


def _read(data: bytes | memoryview, tensor: TensorSpec, site: str) -> Array:
    name, split = tensor.name, _chunks(tensor.elements) * SCALE_BYTES
    scales = np.frombuffer(data[:split], dtype="<f4").astype(np.float32)
    numbers = np.frombuffer(data[split:], dtype=np.int8)
    if not np.isfinite(scales).all():
        raise NonFinite(site, name, f"the scale of chunk {int(np.flatnonzero(~np.isfinite(scales))[0])}")
    normal = (scales >= _SCALE_MIN) & (scales <= _SCALE_MAX) & (scales.view(np.uint32) & _LOW_BITS == 0)
    wrong = np.flatnonzero(~normal & (scales.view(np.uint32) != 0))
    if len(wrong):
        raise NonCanonical(site, name, f"the scale of chunk {int(wrong[0])} is none that the encoder makes")
    largest = np.maximum.reduceat(np.abs(numbers.astype(np.int16)), _starts(tensor.elements))
    wrong = np.flatnonzero(largest != np.where(scales > 0, LARGEST, 0))
    if len(wrong):
        raise NonCanonical(site, name, f"the values of chunk {int(wrong[0])} do not go up to 127")
    return (numbers * _spread(scales, tensor.elements)).reshape(tensor.shape)
