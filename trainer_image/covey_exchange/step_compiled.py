"""The outer step compiled by Numba: one pass over the tensor, in blocks that stay in the first-level cache."""

from __future__ import annotations

import numpy as np

from covey_exchange.codec.kernels.jit import jit
from covey_exchange.manifest import Array
from covey_exchange.step import Integers, Parts, Stepped

_BLOCK = 4096
# Which bit of a word is set, if one is: its top six bits after this product tell (Leiserson, Prokop, Randall 1998).
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_PLACES = np.zeros(64, np.uint64)
for _place in range(64):
    _PLACES[((1 << _place) * int(_DE_BRUIJN) & 0xFFFFFFFFFFFFFFFF) >> 58] = _place


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
    changed: Array,
    without: Array,
) -> int:
    """Fills the last four; returns how many positions there are."""
    updates = starts.size - 1
    begins, ends = starts[:-1].copy(), starts[:-1].copy()
    sent, total = np.zeros((updates, _BLOCK), np.float32), np.zeros(_BLOCK, np.float32)
    named = np.zeros(_BLOCK, np.uint8)  # how many updates have an element: 0, 1, or 2 for more
    words = np.zeros(_BLOCK // 64, np.uint64)  # and a bit where any has it
    found = 0
    for start in range(0, tensor.size, _BLOCK):
        before, after = tensor[start : start + _BLOCK], stepped[start : start + _BLOCK]
        for number in range(updates):
            row, place = sent[number], ends[number]
            begins[number] = place
            while place < starts[number + 1] and indices[place] < start + _BLOCK:
                element = np.uint64(indices[place] - start)
                row[element] = values[place]
                total[element] += values[place]
                named[element] = min(named[element] + 1, 2)
                words[element >> np.uint64(6)] |= np.uint64(1) << (element & np.uint64(63))
                place += 1
            ends[number] = place
        for number in range(updates):
            for place in range(begins[number], ends[number]):
                element = np.uint64(indices[place] - start)
                without[place] = before[element]
                if named[element] == 2:
                    others = np.float32(0)
                    for other in range(updates):
                        others += sent[other, element] if other != number else np.float32(0)
                    without[place] -= others / count * rate
        for number in range(updates):
            for place in range(begins[number], ends[number]):
                sent[number, np.uint64(indices[place] - start)] = 0
        for i in range(before.size):
            after[i] = before[i] - total[i] / count * rate
        total[:] = 0
        for word in range(words.size):
            bits = words[word]
            while bits:
                lowest = bits & (~bits + np.uint64(1))
                bits ^= lowest
                element = np.uint64(64 * word) + _PLACES[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                positions[found], changed[found] = start + np.int64(element), after[element]
                named[element] = 0
                found += 1
            words[word] = 0
    return found


class Compiled:
    """See `covey_exchange.step.Stepper`."""

    def step(self, tensor: Array, parts: Parts, count: np.float32, rate: np.float32) -> Stepped:
        """The tensor after the step."""
        room = len(parts.indices) + 1  # for what is written before it is known whether it counts
        stepped, without = np.empty_like(tensor), np.empty_like(parts.values)
        positions, changed = np.empty(room, np.int64), np.empty(room, np.float32)
        made = (stepped, positions, changed, without)
        found = _step(tensor, parts.indices, parts.values, parts.starts, count, rate, *made)
        return Stepped(stepped, positions[:found].copy(), changed[:found].copy(), without)
