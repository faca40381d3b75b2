"""Two magnitude levels for the kept values of a tensor: one-dimensional 2-means (Lloyd 1982)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec.errors import NonCanonical, NonFinite
from covey_exchange.manifest import Array

CODEBOOK_BYTES = 8
ITERATIONS_MAX = 64
SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


class Codebook(NamedTuple):
    """Levels 0 <= low <= high (float32), and the magnitude up to which a value takes the low one."""

    low: np.float32
    high: np.float32
    cut: np.float32


def fit(magnitudes: Array) -> Codebook:
    """Fit the levels to non-negative float32 magnitudes (at least one).

    The sums run over the sorted magnitudes in float64, so that the result does not depend on their order. A level is
    zero only if all its magnitudes are, and never subnormal.
    """
    ordered = np.sort(magnitudes)
    sums = np.cumsum(ordered, dtype=np.float64)
    count, total = len(ordered), sums[-1]
    split = int(np.searchsorted(ordered, total / count, side="right"))
    for _ in range(ITERATIONS_MAX):
        if not 0 < split < count:
            break
        below = sums[split - 1]
        middle = (below / split + (total - below) / (count - split)) / 2
        moved = int(np.searchsorted(ordered, middle, side="right"))
        if moved == split:
            break
        split = moved
    if not 0 < split < count:
        level = _level(total, count)
        return Codebook(level, level, ordered[-1])
    low = _level(sums[split - 1], split)
    high = _level(total - sums[split - 1], count - split)
    if low >= high:
        return Codebook(high, high, ordered[-1])
    return Codebook(low, high, ordered[split - 1])


def _level(total: np.float64, count: int) -> np.float32:
    if total <= 0:
        return np.float32(0)
    return max(np.float32(total / count), SMALLEST_NORMAL)


def levels(codebook: Codebook, high: NDArray[np.bool_]) -> Array:
    """The magnitude of each value, given which of them take the high level."""
    return np.where(high, codebook.high, codebook.low)


def write(codebook: Codebook) -> bytes:
    """Both levels, float32, little-endian."""
    return np.array([codebook.low, codebook.high], dtype="<f4").tobytes()


def read(data: bytes | memoryview, high: NDArray[np.bool_], site: str, tensor: str | None) -> Array:
    """The magnitude of each value, given which of them take the high level; raises a `DecodeError`.

    Levels are finite, not subnormal, not negative, and low <= high; two different levels are both used; of two equal
    ones only the low is.
    """
    low, top = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if not (np.isfinite(low) and np.isfinite(top)):
        raise NonFinite(site, tensor, f"levels {low} and {top}")
    for level in (low, top):
        if np.signbit(level) or 0 < level < SMALLEST_NORMAL:
            raise NonCanonical(site, tensor, f"level {level} is negative or subnormal")
    if low > top:
        raise NonCanonical(site, tensor, f"low level {low} above high level {top}")
    if low == top and bool(high.any()):
        raise NonCanonical(site, tensor, "a high level that equals the low one is used")
    if low < top and (bool(high.all()) or not bool(high.any())):
        raise NonCanonical(site, tensor, "one of two levels is not used")
    return levels(Codebook(low, top, low), high)
