"""Which codec a task uses, with its parameters."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from covey_exchange.codec.errors import InvalidSpec
from covey_exchange.codec.grid import Grid

SPARSELOCO = "SparseLoCo"
DGC = "DGC"
DENSE = "Dense"
CODECS = (SPARSELOCO, DGC, DENSE)
DENSE_BITS = (32, 16, 8)
CHUNK_MAX = 2**16
WARMUP_ROUNDS_MAX = 100
DECAY = Fraction(95, 100)

_DENSITY_BITS = 40  # a density in the warm-up is a multiple of 2^-40


@dataclass(frozen=True)
class Feedback:
    """How a new update is added to what a site has not sent yet: u <- momentum u + clip(delta), e <- decay e + u.

    Attributes:
        decay: of the error feedback e.
        momentum: of u; None: there is no u, the update itself is added.
        max_norm: L2 norm to which an update is clipped; None: as it is.
    """

    decay: Fraction = DECAY
    momentum: Fraction | None = None
    max_norm: Fraction | None = None


@dataclass(frozen=True)
class CodecSpec:
    """The codec of a task; every site must use the same one, so its digest is part of each signed header.

    Attributes:
        codec: "SparseLoCo", "DGC" or "Dense" (a task's codec None).
        density: share of elements that is kept, 0 < density <= 1; exact, so that all sites count alike.
        value_bits: bits of a kept value; SparseLoCo and DGC have 2 (sign and magnitude level), Dense 32, 16 or 8.
        chunk: elements from which each top-k of SparseLoCo is taken.
        decay: of the error feedback, 0 < decay <= 1; the task's choice with DGC.
        momentum: of DGC, 0 <= momentum < 1.
        max_norm: of DGC: updates are clipped to this L2 norm; None: they are not.
        warmup_rounds: of DGC: rounds in which the density falls to its value.
    """

    codec: str = SPARSELOCO
    density: Fraction = Fraction(1, 64)
    value_bits: int = 2
    chunk: int = 4096
    decay: Fraction = DECAY
    momentum: Fraction = Fraction(0)
    max_norm: Fraction | None = None
    warmup_rounds: int = 0

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InvalidSpec("codec", f'"{self.codec}" is unknown, choose {", ".join(CODECS)}')
        if not 0 < self.density <= 1:
            raise InvalidSpec("density", f"{self.density} must be more than 0 and at most 1")
        allowed = DENSE_BITS if self.codec == DENSE else (2,)
        if self.value_bits not in allowed:
            raise InvalidSpec("valueBits", f"{self.codec} has {' or '.join(map(str, allowed))}, not {self.value_bits}")
        if not 1 <= self.chunk <= CHUNK_MAX:
            raise InvalidSpec("chunk", f"{self.chunk} must be 1 to {CHUNK_MAX} elements")
        if not 0 < self.decay <= 1:
            raise InvalidSpec("dgc.decay", f"{self.decay} must be more than 0 and at most 1")
        if not 0 <= self.momentum < 1:
            raise InvalidSpec("dgc.momentum", f"{self.momentum} must be at least 0 and less than 1")
        if self.max_norm is not None and self.max_norm <= 0:
            raise InvalidSpec("dgc.maxNorm", f"{self.max_norm} must be more than 0")
        if not 0 <= self.warmup_rounds <= WARMUP_ROUNDS_MAX:
            raise InvalidSpec("dgc.warmupRounds", f"{self.warmup_rounds} must be 0 to {WARMUP_ROUNDS_MAX}")
        own = self.decay != DECAY or self.momentum or self.max_norm is not None or self.warmup_rounds
        if self.codec != DGC and own:
            raise InvalidSpec("dgc", f"{self.codec} has no decay of its own, momentum, maxNorm or warmupRounds")

    @property
    def feedback(self) -> Feedback:
        """How updates are accumulated."""
        return Feedback(self.decay, self.momentum or None, self.max_norm)  # with momentum 0, u would be the update

    def at_round(self, number: int) -> CodecSpec:
        """The spec in force in a round (the first is 1): density^(round / (warmup_rounds + 1)) during the warm-up.

        Lin et al. go from 25 % to 0.1 % in four epochs the same way. The root is taken of integers, so that all sites
        have the same density.
        """
        steps = self.warmup_rounds + 1
        if number >= steps:
            return replace(self, warmup_rounds=0)
        power = self.density ** max(1, number)
        density = Fraction(_root(2 ** (_DENSITY_BITS * steps) * power.numerator // power.denominator, steps))
        return replace(self, density=density / 2**_DENSITY_BITS, warmup_rounds=0)

    def kept(self, elements: int) -> int:
        """How many of a chunk's elements are kept: density x elements, rounded down, at least 1."""
        return max(1, elements * self.density.numerator // self.density.denominator)

    def grid(self, elements: int) -> Grid:
        """The chunks of a tensor."""
        full, tail = divmod(elements, self.chunk)
        return Grid(self.chunk, full, self.kept(self.chunk) if full else 0, tail, self.kept(tail) if tail else 0)

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that identify codec and parameters; `codec` of an update's signed header."""
        parameters: tuple[object, ...] = (self.value_bits,)
        if self.codec == SPARSELOCO:
            parameters = (self.density, self.value_bits, self.chunk)
        elif self.codec == DGC:
            parameters = (self.density, self.value_bits, self.decay, self.momentum, self.max_norm, self.warmup_rounds)
        return hashlib.sha256(" ".join(map(str, ("covey-codec-1", self.codec, *parameters))).encode()).digest()


def _root(number: int, degree: int) -> int:
    """The largest integer whose power does not exceed `number`."""
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= number else (low, middle)
    return low
