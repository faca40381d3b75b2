"""The loops of the rule that touch every element of a large model, compiled by Numba; the same bits as NumPy's."""

from __future__ import annotations

import numpy as np
from covey_exchange.codec.kernels.jit import jit
from covey_exchange.manifest import Array
from numpy.typing import NDArray

_BLOCK = 4096


@jit
def add_product(first: Array, second: Array, lanes: NDArray[np.float64]) -> None:
    """Add the products of two arrays, as `add_products`."""
    count = lanes.size
    for start in range(0, first.size, count):
        a, b = first[start : start + count], second[start : start + count]
        for k in range(a.size):
            lanes[k] += np.float64(a[k]) * np.float64(b[k])


@jit
def add_products(arrays: tuple[Array, ...], lanes: NDArray[np.float64]) -> None:
    """Add the products of each array with itself and those before it, exact in float64, in the order of elements.

    Element i goes to lane i modulo their number; `lanes` has one row for each pair. All pairs of some elements come
    before the next elements: the arrays are read from memory once.
    """
    count = lanes.shape[2]
    for start in range(0, arrays[0].size, count):
        for i in range(len(arrays)):
            first = arrays[i][start : start + count]
            for j in range(i + 1):
                second, row = arrays[j][start : start + count], lanes[i, j]
                for k in range(first.size):
                    row[k] += np.float64(first[k]) * np.float64(second[k])


@jit
def at(indices: NDArray[np.int64], values: Array, places: NDArray[np.int64], found: Array) -> None:
    """Values at some places (ascending, like the indices), 0 where there is none; in blocks that stay in the cache."""
    block = np.zeros(_BLOCK, np.float32)
    here, there = 0, 0
    while there < places.size:
        start = places[there] // _BLOCK * _BLOCK
        while here < indices.size and indices[here] < start:
            here += 1
        first = here
        while here < indices.size and indices[here] < start + _BLOCK:
            block[np.uint64(indices[here] - start)] = values[here]
            here += 1
        while there < places.size and places[there] < start + _BLOCK:
            found[there] = block[np.uint64(places[there] - start)]
            there += 1
        for before in range(first, here):
            block[np.uint64(indices[before] - start)] = 0


@jit
def mark(indices: NDArray[np.int64], marks: NDArray[np.uint64]) -> None:
    """Set the bit of each index."""
    for place in range(indices.size):
        index = np.uint64(indices[place])
        marks[index >> np.uint64(6)] |= np.uint64(1) << (index & np.uint64(63))
