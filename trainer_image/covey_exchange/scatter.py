"""Sums at some elements of a large array, in one pass; the same bits as NumPy's indexing, which makes two."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from covey_exchange.manifest import Array

COMPILED_FROM_ELEMENTS = 2**18  # of the indices


class _Scatter(Protocol):
    def __call__(self, target: Array, indices: NDArray[np.int64], values: Array, sign: np.float32) -> None: ...


def add(target: Array, indices: NDArray[np.int64], values: Array) -> None:
    """target[indices] += values, in place.

    Args:
        target: flat and contiguous, float32.
        indices: each once, and in it.
        values: float32, one for each index.
    """
    _scatter(indices.size)(target, indices, values, np.float32(1))


def subtract(target: Array, indices: NDArray[np.int64], values: Array) -> None:
    """target[indices] -= values, in place; as `add`."""
    _scatter(indices.size)(target, indices, values, np.float32(-1))


def _scatter(elements: int) -> _Scatter:
    return _plain if elements < COMPILED_FROM_ELEMENTS else _compiled()


def _plain(target: Array, indices: NDArray[np.int64], values: Array, sign: np.float32) -> None:
    target[indices] += sign * values


@cache
def _compiled() -> _Scatter:
    try:
        from covey_exchange.codec.kernels.jit import jit  # a second: only who needs it pays
    except ImportError:
        return _plain  # slower; the kernels have told

    @jit
    def scatter(target: Array, indices: NDArray[np.int64], values: Array, sign: np.float32) -> None:
        for place in range(indices.size):
            target[np.uint64(indices[place])] += sign * values[place]

    return scatter
