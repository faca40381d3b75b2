"""Small tensors in half precision, inside the blob of every lossy codec; finite, and without negative zeros."""

from __future__ import annotations

import numpy as np

from covey_exchange.codec.errors import NonCanonical, NonFinite
from covey_exchange.manifest import Array, TensorSpec

HALF_BYTES = 2
HALF_MAX = np.float32(np.finfo(np.float16).max)


def write(flat: Array) -> tuple[bytes, Array]:
    """The bytes, and the float32 values that they stand for; what is too large becomes the largest."""
    half = np.clip(flat, -HALF_MAX, HALF_MAX).astype("<f2") + np.float16(0)  # -0 + 0 = +0
    return half.astype("<f2").tobytes(), half.astype(np.float32)


def read(data: bytes | memoryview, tensor: TensorSpec, site: str) -> Array:
    """Inverse of `write`, in the tensor's shape; raises a `DecodeError`."""
    half = np.frombuffer(data, dtype="<f2")
    if not np.isfinite(half).all():
        raise NonFinite(site, tensor.name, f"element {int(np.flatnonzero(~np.isfinite(half))[0])}")
    if bool(((half == 0) & np.signbit(half)).any()):
        raise NonCanonical(site, tensor.name, "a zero has a negative sign")
    return half.astype(np.float32).reshape(tensor.shape)
