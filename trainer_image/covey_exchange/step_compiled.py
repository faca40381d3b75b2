"""The outer step compiled by Numba: one pass over the tensor, in blocks that stay in the first-level cache."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec.kernels.jit import jit
from covey_exchange.manifest import Array
from covey_exchange.step import Integers, Parts

_BLOCK = 4096


@jit
def _add(
    indices: Integers, values: Array, place: int, end: int, start: int, total: Array, named: NDArray[np.uint8]
) -> int:
    """Add an update's elements in one block, and note them; returns where its next ones are."""
    beyond = start + _BLOCK
    while place < end and indices[place] < beyond:
        element = np.uint64(indices[place] - start)
        total[element] += values[place]
        named[element] = 1
        place += 1
    return place


@jit
def _step(
    tensor: Array,
    indices: Integers,
    values: Array,
    starts: Integers,
    count: np.float32,
    rate: np.float32,
    stepped: Array,
    positions: Integers,
) -> int:
    places = starts[:-1].copy()
    total, named = np.zeros(_BLOCK, np.float32), np.zeros(_BLOCK, np.uint8)
    found = 0
    for start in range(0, tensor.size, _BLOCK):
        before, after = tensor[start : start + _BLOCK], stepped[start : start + _BLOCK]
        for number in range(places.size):
            places[number] = _add(indices, values, places[number], starts[number + 1], start, total, named)
        for element in range(before.size):
            after[element] = before[element] - total[element] / count * rate
        for element in range(before.size):  # written in any case: a branch would be guessed wrong too often
            positions[found] = start + element
            found += named[element]
        total[:] = 0
        named[:] = 0
    return found


@jit
def _without(
    tensor: Array,
    indices: Integers,
    values: Array,
    starts: Integers,
    left_out: int,
    count: np.float32,
    rate: np.float32,
    stepped: Array,
) -> None:
    places = starts[:-1].copy()
    total, named = np.zeros(_BLOCK, np.float32), np.zeros(_BLOCK, np.uint8)
    own, end, first = places[left_out], starts[left_out + 1], places[left_out]
    while own < end:
        start = indices[own] // _BLOCK * _BLOCK
        for number in range(places.size):
            if number != left_out:
                while places[number] < starts[number + 1] and indices[places[number]] < start:
                    places[number] += 1
                places[number] = _add(indices, values, places[number], starts[number + 1], start, total, named)
        while own < end and indices[own] < start + _BLOCK:
            element = indices[own]
            stepped[own - first] = tensor[element] - total[np.uint64(element - start)] / count * rate
            own += 1
        total[:] = 0


class Compiled:
    """See `covey_exchange.step.Stepper`."""

    def step(self, tensor: Array, parts: Parts, count: np.float32, rate: np.float32) -> tuple[Array, Integers]:
        """The tensor after the step, and the elements that updates have."""
        stepped, positions = np.empty_like(tensor), np.empty(len(parts.indices) + 1, np.int64)
        found = _step(tensor, parts.indices, parts.values, parts.starts, count, rate, stepped, positions)
        return stepped, positions[:found].copy()

    def without(self, tensor: Array, parts: Parts, left_out: int, count: np.float32, rate: np.float32) -> Array:
        """The elements that one update has, after the step without it."""
        own = parts.of_one(left_out)
        stepped = np.empty(own.stop - own.start, np.float32)
        _without(tensor, parts.indices, parts.values, parts.starts, left_out, count, rate, stepped)
        return stepped
