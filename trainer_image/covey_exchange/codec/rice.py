"""Rice code of non-negative integers in two bit streams, vectorised (Rice & Plaunt 1971).

Of each number the low `bits` go to one stream at fixed width, the rest goes to the other in unary: that many zeros,
then a one. Both streams are padded with zero bits to whole bytes, so that there is exactly one encoding of a list.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_LN2 = Fraction(693147, 1000000)  # rational, so that every site computes the same parameter


def parameter(density: Fraction) -> int:
    """Width of the fixed part that suits gaps between positions kept with this density: floor(log2(ln 2 / density))."""
    mean = _LN2 / density
    return max(0, int(mean).bit_length() - 1)


def packed_bytes(bits: int) -> int:
    """Bytes that hold so many bits."""
    return -(-bits // 8)


def pack_low(numbers: Integers, bits: int) -> Bytes:
    """The fixed-width stream, most significant bit first."""
    shifts = np.arange(bits - 1, -1, -1, dtype=np.int64)
    return np.packbits(((numbers[:, None] >> shifts) & 1).astype(np.uint8).reshape(-1))


def unpack_low(stream: Bytes, count: int, bits: int) -> Integers:
    """Inverse of `pack_low` for `count` numbers; the stream has exactly their bytes."""
    matrix = np.unpackbits(stream, count=count * bits).reshape(count, bits)
    numbers = np.zeros(count, dtype=np.int64)
    for column in range(bits):
        numbers = (numbers << 1) | matrix[:, column]
    return numbers


def pack_high(numbers: Integers, bits: int) -> Bytes:
    """The unary stream."""
    ends = np.cumsum((numbers >> bits) + 1) - 1
    flags = np.zeros(int(ends[-1]) + 1 if len(ends) else 0, dtype=np.uint8)
    flags[ends] = 1
    return np.packbits(flags)


def unary_ends(stream: Bytes) -> Integers:
    """Bit positions of all ones of a unary stream, ascending; as many as it holds numbers."""
    return np.flatnonzero(np.unpackbits(stream)).astype(np.int64, copy=False)


def join(low: Integers, ends: Integers, bits: int) -> Integers:
    """The numbers, from their low parts and the ends of their unary parts."""
    return ((np.diff(ends, prepend=-1) - 1) << bits) | low
