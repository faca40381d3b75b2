"""The outer step on one tensor, theta - rate * (sum of updates / count), with rate >= 0, where updates have elements.

Elements that no update has keep their bits. Sums run in the order of the updates, in float32 and from zero, so both
implementations give the same bits: `NumPy` is the specification, `step_compiled.Compiled` does the same in one pass.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec import Sparse
from covey_exchange.codec.kernels import COMPILED_FROM_PARAMETERS
from covey_exchange.manifest import Array

Integers = NDArray[np.int64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """All updates of one tensor, one after the other.

    Attributes:
        indices: int64, ascending in each update.
        values: float32, one for each index.
        starts: where each update begins among them; then where the last one ends.
    """

    indices: Integers
    values: Array
    starts: Integers

    @classmethod
    def of(cls, updates: Sequence[Sparse]) -> Parts:
        """Join updates in their order."""
        ends = np.cumsum([0, *(len(update.indices) for update in updates)], dtype=np.int64)
        indices = [np.zeros(0, np.int64), *(update.indices for update in updates)]
        values = [np.zeros(0, np.float32), *(update.values for update in updates)]
        return cls(np.concatenate(indices), np.concatenate(values), ends)

    def of_one(self, number: int) -> slice:
        """Where an update is."""
        return slice(int(self.starts[number]), int(self.starts[number + 1]))


@dataclass(frozen=True)
class Stepped:
    """A tensor after the step.

    Attributes:
        tensor: all of it, flat, float32.
        positions: the elements that updates have, int64, ascending.
        values: the tensor there.
        without: for each element of each update, in the order of the parts: what the step without that update makes.
    """

    tensor: Array
    positions: Integers
    values: Array
    without: Array


class Stepper(Protocol):
    """What an implementation does; tensors are flat and contiguous, float32."""

    def step(self, tensor: Array, parts: Parts, count: np.float32, rate: np.float32) -> Stepped:
        """The tensor after the step."""
        ...


class NumPy:
    """See `Stepper`."""

    def step(self, tensor: Array, parts: Parts, count: np.float32, rate: np.float32) -> Stepped:
        """The tensor after the step."""
        named = np.zeros(tensor.size, dtype=np.bool_)
        named[parts.indices] = True
        positions, updates = np.flatnonzero(named), range(len(parts.starts) - 1)
        values, without = _stepped(tensor, positions, parts, updates, count, rate), np.empty_like(parts.values)
        for left_out in updates:
            own, others = parts.of_one(left_out), [number for number in updates if number != left_out]
            without[own] = _stepped(tensor, parts.indices[own], parts, others, count, rate)
        stepped = tensor.copy()
        stepped[positions] = values
        return Stepped(stepped, positions, values, without)


def _stepped(
    tensor: Array, positions: Integers, parts: Parts, updates: Sequence[int], count: np.float32, rate: np.float32
) -> Array:
    """Some elements after a step with some of the updates."""
    total = np.zeros(tensor.size, dtype=np.float32)
    for number in updates:
        part = parts.of_one(number)
        total[parts.indices[part]] += parts.values[part]
    return np.asarray(tensor[positions] - total[positions] / count * rate)


NUMPY: Stepper = NumPy()


def for_model(parameters: int) -> Stepper:
    """The implementation that suits a model of this size."""
    return NUMPY if parameters < COMPILED_FROM_PARAMETERS else _compiled()


@cache
def _compiled() -> Stepper:
    try:
        from covey_exchange.step_compiled import Compiled  # a second: only who needs it pays
    except ImportError as error:
        _log.warning("models are merged by NumPy, several times slower: %s", error)
        return NUMPY
    return Compiled()
