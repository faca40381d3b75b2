"""The kernels compiled by Numba; a second of import, and seconds of compilation unless the cache has the code.

Compiled functions release the interpreter lock, and a pool of plain threads runs them on parts of a tensor: Numba's own
parallel layer must not be entered by two threads at once, and the validator decodes several updates at a time.

Magnitudes are compared as integers: of finite float32 without their sign, the bits are ordered as the values are.
Two habits let LLVM use vector instructions: loops run over slices (a start that is not a constant could be negative,
which Python counts from the end), and every integer operation is cut back to 32 bits (Numba widens to 64).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec.grid import Grid
from covey_exchange.codec.kernels.jit import jit
from covey_exchange.codec.kernels.reference import NumPy
from covey_exchange.codec.rice import Bytes, Integers
from covey_exchange.manifest import Array

T = TypeVar("T")
Bits = NDArray[np.int32]

PARALLEL_FROM_ELEMENTS = 2**20
THREADS_MAX = 16
SAMPLE = 2**16  # elements from which the threshold of a whole model is guessed
CANDIDATES_MAX = 4  # times as many as are kept: bounds the working memory
_AT_ONCE = 4096  # elements that stay in the first-level cache between two steps
_BLOCK = 64
_ABSOLUTE = np.int32(0x7FFFFFFF)
_EXPONENT = np.int32(0x7F800000)
_ONE_EXPONENT = np.int32(0x00800000)
_LARGEST = 0x7F7FFFFF  # bits of the largest finite float32
_SLACK = 3 * 2**18  # how far below the last threshold the next is looked for: less than a tenth of its value


@jit
def _accumulate(kept: Array, added: Array, decay: np.float32, out: Array) -> int:
    """-1, or an index before which decay * kept + added is finite and soon after which it is not."""
    total = np.empty(_AT_ONCE, np.float32)  # `out` may be one of both, and LLVM knows what it may do with this one
    bits = total.view(np.int32)
    for start in range(0, kept.size, _AT_ONCE):
        count = min(_AT_ONCE, kept.size - start)
        k, a = kept[start : start + count], added[start : start + count]
        for i in range(count):
            total[i] = k[i] * decay + a[i]
        out[start : start + count] = total[:count]
        flags = np.int32(0)
        for i in range(count):  # an exponent of all ones carries into the sign
            flags = np.int32(flags | np.int32(np.int32(bits[i] & _EXPONENT) + _ONE_EXPONENT))
        if flags < 0:
            return start
    return -1


@jit
def _count(keys: Bits, threshold: np.int32) -> int:
    count = 0
    for i in range(keys.size):
        count += int(keys[i] >= threshold)
    return count


@jit
def _count_magnitudes(bits: Bits, threshold: np.int32) -> int:
    count = 0
    for i in range(bits.size):
        count += int(np.int32(bits[i] & _ABSOLUTE) >= threshold)
    return count


@jit
def _kth(keys: Bits, kept: int, low: int, high: int) -> int:
    """The largest threshold in [low, high] that `kept` keys reach; low is reached by as many."""
    while low < high:
        middle = low + (high - low + 1) // 2
        if _count(keys, np.int32(middle)) >= kept:
            low = middle
        else:
            high = middle - 1
    return low


@jit
def _collect(bits: Bits, threshold: np.int32, positions: NDArray[np.int32]) -> int:
    """Positions of the magnitudes that reach the threshold; the array has room for one more than there are."""
    count, blocks = 0, bits.size // _BLOCK
    below = np.int32(threshold - np.int32(1))
    for block in range(blocks):
        part = bits[block * _BLOCK : block * _BLOCK + _BLOCK]
        flags = np.int32(0)
        for i in range(_BLOCK):  # negative where the magnitude is larger than `below`
            flags = np.int32(flags | np.int32(below - np.int32(part[i] & _ABSOLUTE)))
        if flags < 0:
            for i in range(_BLOCK):
                positions[count] = np.int32(block * _BLOCK + i)
                count += int(np.int32(part[i] & _ABSOLUTE) >= threshold)
    for i in range(blocks * _BLOCK, bits.size):
        positions[count] = np.int32(i)
        count += int(np.int32(bits[i] & _ABSOLUTE) >= threshold)
    return count


@jit
def _select(bits: Bits, chunk: int, kept: int, offset: int, out: Integers) -> None:
    """Each chunk's largest. The last threshold, a little lowered, tells where to look; if too few are there, anew."""
    keys, positions = np.empty(chunk, np.int32), np.empty(chunk + 1, np.int32)
    guess, written = 0, 0
    for start in range(0, bits.size, chunk):
        row = bits[start : start + chunk]
        count = _collect(row, np.int32(guess), positions)
        if count < kept:
            guess = 0
            count = _collect(row, np.int32(0), positions)
        for i in range(count):
            keys[i] = np.int32(row[positions[i]] & _ABSOLUTE)
        found = keys[:count]
        threshold = _kth(found, kept, guess, _LARGEST)
        room = kept - _count(found, np.int32(threshold + 1))
        for i in range(count):
            if keys[i] > threshold or (keys[i] == threshold and room > 0):
                room -= int(keys[i] == threshold)
                out[written] = offset + start + positions[i]
                written += 1
        guess = max(0, threshold - _SLACK)


@jit
def _collect_range(bits: Bits, threshold: np.int32, offset: int, keys: Bits, found: Integers) -> None:
    """Magnitudes that reach the threshold, with their positions; as many as the arrays have room for."""
    positions = np.empty(_AT_ONCE + 1, np.int32)
    written = 0
    for start in range(0, bits.size, _AT_ONCE):
        part = bits[start : start + _AT_ONCE]
        for i in range(_collect(part, threshold, positions)):
            keys[written] = np.int32(part[positions[i]] & _ABSOLUTE)
            found[written] = offset + start + positions[i]
            written += 1


@jit
def _to_gaps(positions: Integers, chunk: int, kept: int, offset: int, out: Integers) -> None:
    start = offset
    for first in range(0, positions.size, kept):
        before = start - 1
        for i in range(first, first + kept):
            out[i] = positions[i] - before - 1
            before = positions[i]
        start += chunk


@jit
def _from_gaps(gaps: Integers, chunk: int, kept: int, extent: int, offset: int, out: Integers) -> int:
    """Positions; the first chunk that they leave, or -1."""
    left, start = -1, offset
    for number, first in enumerate(range(0, gaps.size, kept)):
        position = start - 1
        for i in range(first, first + kept):
            position += gaps[i] + 1
            out[i] = position
        if position - start >= extent and left < 0:
            left = number
        start += chunk
    return left


@jit
def _pack(gaps: Integers, bits: int, low: Bytes, unary: Bytes) -> None:
    """Both streams of the Rice code; `unary` is zero before."""
    mask = (1 << bits) - 1
    pending, held, written, end = 0, 0, 0, -1
    for i in range(gaps.size):
        end += (gaps[i] >> bits) + 1
        unary[end >> 3] |= np.uint8(0x80 >> (end & 7))
        pending = (pending << bits) | (gaps[i] & mask)
        held += bits
        while held >= 8:
            held -= 8
            low[written] = np.uint8(pending >> held)
            pending &= (1 << held) - 1
            written += 1
    if held:
        low[written] = np.uint8(pending << (8 - held))


@jit
def _unpack(low: Bytes, unary: Bytes, bits: int, out: Integers) -> None:
    pending, held, read, zeros, written = 0, 0, 0, 0, 0
    for i in range(unary.size):
        byte = int(unary[i])
        for shift in range(7, -1, -1):
            if (byte >> shift) & 1 == 0:
                zeros += 1
                continue
            while held < bits:
                pending = (pending << 8) | int(low[read])
                held += 8
                read += 1
            held -= bits
            out[written] = (zeros << bits) | (pending >> held)
            pending &= (1 << held) - 1
            written += 1
            zeros = 0
            if written == out.size:
                return


@jit
def _unary_bits(gaps: Integers, bits: int) -> int:
    total = gaps.size
    for i in range(gaps.size):
        total += int(gaps[i]) >> bits
    return total


class Compiled:
    """See `Kernels`."""

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or min(THREADS_MAX, len(os.sched_getaffinity(0)))
        self._reference = NumPy()

    def accumulate(self, kept: Array, added: Array, decay: np.float32, out: Array) -> int:
        """Write decay * kept + added to `out`; the first index at which it is not finite, or -1."""
        parts = self._parts(out.size, 1)
        found = self._run([partial(_accumulate, kept[a:b], added[a:b], decay, out[a:b]) for a, b in parts])
        for (start, _), at in zip(parts, found, strict=True):
            if at >= 0:
                first = start + at
                return first + int(np.argmin(np.isfinite(out[first : first + _AT_ONCE])))
        return -1

    def select(self, flat: Array, grid: Grid) -> Integers:
        """Largest magnitudes of each chunk."""
        bits, out = flat.view(np.int32), np.empty(grid.kept, np.int64)
        chunk, kept = grid.chunk, grid.kept_full

        self._run(
            [
                partial(_select, bits[a * chunk : b * chunk], chunk, kept, a * chunk, out[a * kept : b * kept])
                for a, b in self._parts(grid.full, chunk)
            ]
        )
        if grid.tail:
            _select(bits[grid.boundary :], grid.tail, grid.kept_tail, grid.boundary, out[grid.full * kept :])
        return out

    def largest(self, parts: Sequence[Array], kept: int) -> list[Integers]:
        """Largest magnitudes of all parts together: those above a guess, of which the exact threshold is taken."""
        threshold = np.int32(_guess(parts, kept))
        ranges = [(part.view(np.int32)[a:b], threshold, a) for part in parts for a, b in self._parts(part.size, 1)]
        counts = self._run([partial(_count_magnitudes, bits, threshold) for bits, _, _ in ranges])
        if not kept <= sum(counts) <= CANDIDATES_MAX * kept + SAMPLE:
            return self._reference.largest(parts, kept)  # a guess gone wrong, or very many equal values
        found = [(np.empty(n, np.int32), np.empty(n, np.int64)) for n in counts]
        self._run([partial(_collect_range, *r, *f) for r, f in zip(ranges, found, strict=True)])
        keys = np.concatenate([k for k, _ in found])
        exact = np.partition(keys, keys.size - kept)[keys.size - kept]
        chosen = keys > exact
        ties = np.flatnonzero(keys == exact)[: kept - int(np.count_nonzero(chosen))]
        chosen[ties] = True
        ends = np.cumsum([k.size for k, _ in found])[:-1]
        taken = iter([p[which] for (_, p), which in zip(found, np.split(chosen, ends), strict=True)])
        return [np.concatenate([next(taken) for _ in self._parts(part.size, 1)]) for part in parts]

    def to_gaps(self, positions: Integers, grid: Grid) -> Integers:
        """Elements skipped before each kept one."""
        gaps, boundary = np.empty_like(positions), grid.full * grid.kept_full
        if grid.full:
            _to_gaps(positions[:boundary], grid.chunk, grid.kept_full, 0, gaps[:boundary])
        if grid.tail:
            _to_gaps(positions[boundary:], grid.tail, grid.kept_tail, grid.boundary, gaps[boundary:])
        return gaps

    def from_gaps(self, gaps: Integers, grid: Grid) -> tuple[Integers, int]:
        """Positions, and the first chunk that they leave."""
        positions, boundary = np.empty_like(gaps), grid.full * grid.kept_full
        left = -1
        if grid.full:
            left = _from_gaps(gaps[:boundary], grid.chunk, grid.kept_full, grid.chunk, 0, positions[:boundary])
        if grid.tail:
            start, rest = grid.boundary, positions[boundary:]
            beyond = _from_gaps(gaps[boundary:], grid.tail, grid.kept_tail, grid.tail, start, rest)
            left = grid.full if beyond >= 0 and left < 0 else left
        return positions, left

    def pack(self, gaps: Integers, bits: int) -> tuple[Bytes, Bytes]:
        """Rice code."""
        low = np.zeros((gaps.size * bits + 7) // 8, np.uint8)
        unary = np.zeros((_unary_bits(gaps, bits) + 7) // 8, np.uint8)
        _pack(gaps, bits, low, unary)
        return low, unary

    def unpack(self, low: Bytes, unary: Bytes, count: int, bits: int) -> Integers:
        """Inverse of `pack`."""
        gaps = np.empty(count, np.int64)
        if count:
            _unpack(low, unary, bits, gaps)
        return gaps

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="codec")

    def _parts(self, count: int, elements_each: int) -> list[tuple[int, int]]:
        """Cut `count` things into one range a thread, or one range in all if they have few elements."""
        if count == 0:
            return []
        threads = self._threads if count * elements_each >= PARALLEL_FROM_ELEMENTS else 1
        threads = min(threads, count)
        return [(count * i // threads, count * (i + 1) // threads) for i in range(threads)]

    def _run(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        if len(calls) < 2 or self._threads < 2:
            return [call() for call in calls]
        return list(self._pool.map(lambda call: call(), calls))


def _guess(parts: Sequence[Array], kept: int) -> int:
    """A threshold that a little more than `kept` magnitudes will reach, judged by an evenly spaced sample."""
    total = sum(part.size for part in parts)
    step = max(1, total // SAMPLE)
    sample = np.concatenate([part[::step].view(np.int32) & _ABSOLUTE for part in parts])
    expected = kept * sample.size / total
    wanted = int(expected + 4 * expected**0.5) + 8
    if wanted >= sample.size:
        return 0
    return int(np.partition(sample, sample.size - wanted)[sample.size - wanted])
