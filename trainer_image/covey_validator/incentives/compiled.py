"""The loops of the rule that touch every element of a large model, compiled by Numba; the same bits as NumPy's."""

from __future__ import annotations

import numpy as np
from covey_exchange.codec.kernels.jit import jit
from covey_exchange.manifest import Array
from numpy.typing import NDArray


@jit
def add_products(first: Array, second: Array, lanes: NDArray[np.float64]) -> None:
    """Add each product, exact in float64, to the lane of its element, in the order of elements."""
    for start in range(0, first.size, lanes.size):
        count = min(lanes.size, first.size - start)
        a, b, row = first[start : start + count], second[start : start + count], lanes[:count]
        for i in range(count):
            row[i] += np.float64(a[i]) * np.float64(b[i])


@jit
def at(indices: NDArray[np.int64], values: Array, places: NDArray[np.int64], found: Array) -> None:
    """Values at some places (ascending, like the indices); what has no value stays as it is in `found`."""
    here, there = 0, 0
    while here < indices.size and there < places.size:
        index, place = indices[here], places[there]
        if index == place:
            found[there] = values[here]
        here += int(index <= place)
        there += int(place <= index)
