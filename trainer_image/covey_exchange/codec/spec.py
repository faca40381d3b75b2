"""Which codec a task uses, with its parameters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from covey_exchange.codec.errors import InvalidSpec

SPARSELOCO = "SparseLoCo"
DENSE = "Dense"
CHUNK_MAX = 2**16


@dataclass(frozen=True)
class CodecSpec:
    """The codec of a task; every site must use the same one, so its digest is part of each signed header.

    Attributes:
        codec: "SparseLoCo" or "Dense" (a task's codec None).
        density: share of elements that is kept, 0 < density <= 1; exact, so that all sites count alike.
        value_bits: bits of a kept value; SparseLoCo has 2 (sign and magnitude level).
        chunk: elements from which each top-k is taken.
    """

    codec: str = SPARSELOCO
    density: Fraction = Fraction(1, 64)
    value_bits: int = 2
    chunk: int = 4096

    def __post_init__(self) -> None:
        if self.codec not in (SPARSELOCO, DENSE):
            raise InvalidSpec("codec", f'"{self.codec}" is unknown, choose {SPARSELOCO} or {DENSE}')
        if not 0 < self.density <= 1:
            raise InvalidSpec("density", f"{self.density} must be more than 0 and at most 1")
        if self.codec == SPARSELOCO and self.value_bits != 2:
            raise InvalidSpec("valueBits", f"{SPARSELOCO} has 2-bit values, not {self.value_bits}")
        if not 1 <= self.chunk <= CHUNK_MAX:
            raise InvalidSpec("chunk", f"{self.chunk} must be 1 to {CHUNK_MAX} elements")

    def kept(self, elements: int) -> int:
        """How many of a chunk's elements are kept: density x elements, rounded down, at least 1."""
        return max(1, elements * self.density.numerator // self.density.denominator)

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that identify codec and parameters; `codec` of an update's signed header."""
        parameters = (self.density, self.value_bits, self.chunk) if self.codec == SPARSELOCO else ()
        return hashlib.sha256(" ".join(map(str, ("covey-codec-1", self.codec, *parameters))).encode()).digest()
