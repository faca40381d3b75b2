"""The loops of the codecs that touch every element: one interface, several implementations, the same bytes.

`NumPy` is the specification. `compiled.Compiled` (Numba) does the same several times faster, but costs seconds before
its first result, so it is imported only for models of `COMPILED_FROM_PARAMETERS` and more; a third implementation, for
GPUs, lives with the trainer (`covey_trainer.kernels`), because this package knows no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from covey_exchange.codec.grid import Grid
from covey_exchange.codec.kernels.reference import NumPy
from covey_exchange.codec.rice import Bytes, Integers
from covey_exchange.manifest import Array

__all__ = ["COMPILED_FROM_PARAMETERS", "Bytes", "Grid", "Integers", "Kernels", "NumPy", "cache_in", "for_model"]

# Half a second to import and load, three more to compile once for a task, against 50 ms won per update at this size.
COMPILED_FROM_PARAMETERS = 2**24

_log = logging.getLogger(__name__)


class Kernels(Protocol):
    """What an implementation does; every array is flat and contiguous, every float32 finite unless said."""

    def accumulate(self, kept: Array, added: Array, decay: np.float32, out: Array) -> int:
        """Write decay * kept + added, each operation rounded, to `out`, which may be one of both.

        Returns the first index at which the sum is not finite, and then `out` is of no use; else -1.
        """
        ...

    def select(self, flat: Array, grid: Grid) -> Integers:
        """Positions of each chunk's largest magnitudes, ascending; of equal ones the first."""
        ...

    def largest(self, parts: Sequence[Array], kept: int) -> list[Integers]:
        """Positions of the `kept` largest magnitudes of all parts together, part by part; of equal ones the first."""
        ...

    def to_gaps(self, positions: Integers, grid: Grid) -> Integers:
        """Elements skipped before each kept one, counted within its chunk."""
        ...

    def from_gaps(self, gaps: Integers, grid: Grid) -> tuple[Integers, int]:
        """Inverse of `to_gaps` for gaps of any size; with the first chunk that they leave, or -1."""
        ...

    def pack(self, gaps: Integers, bits: int) -> tuple[Bytes, Bytes]:
        """Rice code: the fixed-width and the unary stream."""
        ...

    def unpack(self, low: Bytes, unary: Bytes, count: int, bits: int) -> Integers:
        """Inverse of `pack`, for streams that hold `count` numbers."""
        ...


NUMPY: Kernels = NumPy()
_cache_directories: list[Path] = []


def cache_in(directory: Path) -> None:
    """Keep compiled code in a directory that only this user can write to; call before the first use.

    Machine code is loaded from it, so whoever can write there can run code here.
    """
    _cache_directories.append(directory)


def for_model(parameters: int) -> Kernels:
    """The kernels that suit a model of this size."""
    return NUMPY if parameters < COMPILED_FROM_PARAMETERS else _compiled()


@cache
def _compiled() -> Kernels:
    try:
        from covey_exchange.codec.kernels import jit  # a second: only who needs it pays

        for directory in _cache_directories:
            jit.cache_in(directory)
        from covey_exchange.codec.kernels.compiled import Compiled
    except ImportError as error:
        _log.warning("updates are encoded by NumPy, several times slower: %s", error)
        return NUMPY
    return Compiled()
