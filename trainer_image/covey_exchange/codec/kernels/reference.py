"""The kernels in NumPy: the specification that all others are held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec import rice
from covey_exchange.codec.grid import Grid
from covey_exchange.codec.rice import Bytes, Integers
from covey_exchange.manifest import Array

ELEMENTS_AT_ONCE = 2**22  # in one selection step: bounds the working memory


class NumPy:
    """See `Kernels`."""

    def accumulate(self, kept: Array, added: Array, decay: np.float32, out: Array) -> int:
        """Write decay * kept + added to `out`; the first index at which it is not finite, or -1."""
        for start in range(0, kept.size, ELEMENTS_AT_ONCE):
            part = slice(start, start + ELEMENTS_AT_ONCE)
            with np.errstate(over="ignore", invalid="ignore"):
                out[part] = kept[part] * decay + added[part]
            bad = np.flatnonzero(~np.isfinite(out[part]))
            if len(bad):
                return start + int(bad[0])
        return -1

    def select(self, flat: Array, grid: Grid) -> Integers:
        """Largest magnitudes of each chunk."""
        found = []
        rows_at_once = max(1, ELEMENTS_AT_ONCE // grid.chunk)
        for row in range(0, grid.full, rows_at_once):
            rows = min(rows_at_once, grid.full - row)
            start = row * grid.chunk
            block = np.abs(flat[start : start + rows * grid.chunk]).reshape(rows, grid.chunk)
            found.append(np.flatnonzero(_largest(block, grid.kept_full)) + start)
        if grid.tail:
            block = np.abs(flat[grid.boundary :]).reshape(1, grid.tail)
            found.append(np.flatnonzero(_largest(block, grid.kept_tail)) + grid.boundary)
        return np.concatenate(found)

    def largest(self, parts: Sequence[Array], kept: int) -> list[Integers]:
        """Largest magnitudes of all parts together."""
        candidates = [_top(np.abs(part), min(kept, part.size)) for part in parts]
        threshold = _top(np.concatenate(candidates), kept).min()
        above = [np.abs(part) > threshold for part in parts]
        room = kept - sum(int(np.count_nonzero(flags)) for flags in above)
        found = []
        for part, flags in zip(parts, above, strict=True):
            ties = np.flatnonzero(np.abs(part) == threshold)[:room]
            flags[ties] = True
            room -= len(ties)
            found.append(np.flatnonzero(flags))
        return found

    def to_gaps(self, positions: Integers, grid: Grid) -> Integers:
        """Elements skipped before each kept one."""
        local = positions % grid.chunk
        return np.concatenate(
            [
                np.diff(local[which].reshape(rows, kept), axis=1, prepend=-1).reshape(-1) - 1
                for which, _, rows, kept in _matrices(grid)
            ]
        )

    def from_gaps(self, gaps: Integers, grid: Grid) -> tuple[Integers, int]:
        """Positions, and the first chunk that they leave."""
        positions, left = np.empty_like(gaps), -1
        for which, first, rows, kept in _matrices(grid):
            local = np.cumsum(gaps[which].reshape(rows, kept) + 1, axis=1) - 1
            beyond = np.flatnonzero(local[:, -1] >= grid.extent(first))
            if len(beyond) and left < 0:
                left = first + int(beyond[0])
            starts = (first + np.arange(rows, dtype=np.int64)) * grid.chunk
            positions[which] = (local + starts[:, None]).reshape(-1)
        return positions, left

    def pack(self, gaps: Integers, bits: int) -> tuple[Bytes, Bytes]:
        """Rice code."""
        return rice.pack_low(gaps, bits), rice.pack_high(gaps, bits)

    def unpack(self, low: Bytes, unary: Bytes, count: int, bits: int) -> Integers:
        """Inverse of `pack`."""
        return rice.join(rice.unpack_low(low, count, bits), rice.unary_ends(unary), bits)


def _top(magnitudes: Array, kept: int) -> Array:
    return np.partition(magnitudes, magnitudes.size - kept)[magnitudes.size - kept :]


def _largest(block: Array, kept: int) -> NDArray[np.bool_]:
    """Row-wise: which elements are the `kept` largest, the first ones among equals."""
    threshold = np.partition(block, block.shape[1] - kept, axis=1)[:, -kept, None]
    chosen: NDArray[np.bool_] = block >= threshold
    crowded = np.flatnonzero(np.count_nonzero(chosen, axis=1) > kept)
    if len(crowded):
        above = block[crowded] > threshold[crowded]
        ties = block[crowded] == threshold[crowded]
        room = kept - np.count_nonzero(above, axis=1)
        chosen[crowded] = above | (ties & (np.cumsum(ties, axis=1) <= room[:, None]))
    return chosen


def _matrices(grid: Grid) -> list[tuple[slice, int, int, int]]:
    """The kept elements as up to two matrices: (which, first chunk, rows, kept per row); full chunks, then the tail."""
    boundary = grid.full * grid.kept_full
    both = [
        (slice(0, boundary), 0, grid.full, grid.kept_full),
        (slice(boundary, grid.kept), grid.full, 1, grid.kept_tail),
    ]
    return [matrix for matrix in both if matrix[2] and matrix[3]]
