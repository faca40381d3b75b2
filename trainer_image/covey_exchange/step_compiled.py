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
    count: np.float32,
    rate: np.float32,
    found: Array,
) -> None:
    updates = starts.size - 1
    begins, ends = starts[:-1].copy(), starts[:-1].copy()
    sent, block = np.zeros((updates, _BLOCK), np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, tensor.size, _BLOCK):
        size = min(_BLOCK, tensor.size - start)
        block[:size] = tensor[start : start + size]  # in order, which memory is fast at
        for number in range(updates):
            row, place = sent[number], ends[number]
            while place < starts[number + 1] and indices[place] < start + _BLOCK:
                row[np.uint64(indices[place] - start)] = values[place]
                place += 1
            begins[number], ends[number] = ends[number], place
        for number in range(updates):
            for place in range(begins[number], ends[number]):
                element = np.uint64(indices[place] - start)
                total = np.float32(0)
                for other in range(updates):
                    total += sent[other, element] if other != number else np.float32(0)
                found[place] = block[element] - total / count * rate
        for number in range(updates):
            for place in range(begins[number], ends[number]):
                sent[number, np.uint64(indices[place] - start)] = 0


class Compiled:
    """See `covey_exchange.step.Stepper`."""

    def step(self, tensor: Array, parts: Parts, count: np.float32, rate: np.float32) -> tuple[Array, Integers]:
        """The tensor after the step, and the elements that updates have."""
        stepped, positions = np.empty_like(tensor), np.empty(len(parts.indices) + 1, np.int64)
        found = _step(tensor, parts.indices, parts.values, parts.starts, count, rate, stepped, positions)
        return stepped, positions[:found].copy()

    def without(self, tensor: Array, parts: Parts, count: np.float32, rate: np.float32) -> Array:
        """For each element of each update: what it is after the step without that update."""
        found = np.empty_like(parts.values)
        _without(tensor, parts.indices, parts.values, parts.starts, count, rate, found)
        return found
