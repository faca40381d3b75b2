"""The L2 norm of many tensors, the same bits on every machine."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from covey_exchange.manifest import Array

_LANES = 4096


def norm(parts: Iterable[Array]) -> float:
    """Square root of all squares in float64: lane-wise sums in the order of elements, then `fsum` over the lanes."""
    return math.sqrt(math.fsum(_sum_of_squares(part.reshape(-1)) for part in parts))


def _sum_of_squares(values: Array) -> float:
    lanes = np.zeros(_LANES, dtype=np.float64)
    for start in range(0, values.size, _LANES):
        row = values[start : start + _LANES].astype(np.float64)
        lanes[: row.size] += row * row
    return math.fsum(lanes)
