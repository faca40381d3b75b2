"""The four bit streams over all kept elements that end a sparse blob: signs, magnitude bits, and gaps in Rice code.

Of each stream the padding to whole bytes is zero; the last one (the unary parts of the gaps), which alone has a length
that depends on the data, ends with a byte that has a one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec import rice
from covey_exchange.codec.errors import NonCanonical, TrailingBytes, WrongLength
from covey_exchange.codec.kernels import Integers, Kernels
from covey_exchange.codec.update import Sparse
from covey_exchange.manifest import Array

VALUE_BITS = 2

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Streams:
    """Their place in the blob, a function of the manifest and the spec alone.

    Attributes:
        head_bytes: where they begin.
        kept: elements.
        rice_bits: fixed-width part of each gap.
        unary_bits_max: the most bits that the unary parts can take.
    """

    head_bytes: int
    kept: int
    rice_bits: int
    unary_bits_max: int

    @cached_property
    def sizes(self) -> tuple[int, int, int]:
        """Bytes of the signs, the magnitude bits and the low parts of the gaps."""
        flags = rice.packed_bytes(self.kept)
        return flags, flags, rice.packed_bytes(self.kept * self.rice_bits)

    @cached_property
    def min_bytes(self) -> int:
        """The shortest blob: every unary part is a single bit."""
        return self.head_bytes + sum(self.sizes) + rice.packed_bytes(self.kept)

    @cached_property
    def max_bytes(self) -> int:
        """The longest blob: in every chunk the last kept element is the chunk's last."""
        return self.head_bytes + sum(self.sizes) + rice.packed_bytes(self.unary_bits_max)

    def write(self, signs: Flags, highs: Flags, gaps: Integers, kernels: Kernels) -> list[bytes]:
        """The streams, in order."""
        return [
            np.packbits(signs).tobytes(),
            np.packbits(highs).tobytes(),
            *(s.tobytes() for s in kernels.pack(gaps, self.rice_bits)),
        ]

    def check_length(self, payload: bytes | memoryview, magic: bytes, site: str) -> None:
        """Before anything is read: a possible length, and the codec's first bytes; raises a `DecodeError`."""
        if len(payload) < self.min_bytes:
            raise WrongLength(site, None, f"{len(payload)} bytes, at least {self.min_bytes} are needed")
        if len(payload) > self.max_bytes:
            raise TrailingBytes(site, None, f"{len(payload)} bytes, at most {self.max_bytes} are possible")
        if payload[: len(magic)] != magic:
            raise NonCanonical(site, None, f"begins with {payload[: len(magic)].hex()}, not {magic.hex()}")

    def read(
        self, payload: bytes | memoryview, tensor_of: Callable[[int], str | None], site: str, kernels: Kernels
    ) -> tuple[Flags, Flags, Integers]:
        """Signs, magnitude bits and gaps, as many as there are kept elements; raises a `DecodeError`.

        Args:
            payload: of a length that `check_length` has found possible.
            tensor_of: name of the tensor that the kept element with this number belongs to, where it is known.
            site: for errors.
            kernels: for the gaps.
        """
        data = np.frombuffer(payload, dtype=np.uint8)
        bounds = np.cumsum((self.head_bytes, *self.sizes))
        signs, highs, low = (data[start:end] for start, end in pairwise(bounds))
        unary = data[int(bounds[-1]) :]
        for stream, bits, name in (
            (signs, self.kept, "signs"),
            (highs, self.kept, "magnitude bits"),
            (low, self.kept * self.rice_bits, "gaps"),
        ):
            if bits % 8 and int(stream[-1]) & ((1 << (8 - bits % 8)) - 1):
                raise NonCanonical(site, None, f"the padding after the {name} is not zero")
        ones = int(np.bitwise_count(unary).sum(dtype=np.int64))
        if ones < self.kept:
            raise WrongLength(site, tensor_of(ones), f"{ones} of {self.kept} kept elements have a gap")
        if ones > self.kept:
            raise TrailingBytes(site, None, f"{ones} gaps for {self.kept} kept elements")
        if len(unary) and not unary[-1]:
            raise TrailingBytes(site, None, "ends with an empty byte")
        return (
            np.unpackbits(signs, count=self.kept).view(bool),
            np.unpackbits(highs, count=self.kept).view(bool),
            kernels.unpack(low, unary, self.kept, self.rice_bits),
        )


def signed(levels: Array, signs: Flags) -> Array:
    """Values from their magnitudes and signs."""
    return np.where(signs, -levels, levels)


def check_zeros(part: Sparse, signs: Flags, chunk: int, kept: int, site: str, tensor: str | None) -> None:
    """Zeros have a positive sign and sit at the first free positions of their chunk; raises a `DecodeError`.

    Args:
        part: kept elements of all chunks, or of some whole ones.
        signs: of each of them.
        chunk: elements of a chunk.
        kept: of a chunk; the last may keep less.
        site: for errors.
        tensor: for errors.
    """
    zeros = np.flatnonzero(part.values == 0)
    if not len(zeros):
        return
    if bool(signs[zeros].any()):
        raise NonCanonical(site, tensor, "a zero has a negative sign")
    if bool((part.indices[zeros] % chunk != zeros % kept).any()):
        raise NonCanonical(site, tensor, "a zero is not at the first free position of its chunk")
