"""What members do that are not honest: to their records, to their updates, and to their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from covey_exchange.codec import Update, densify
from covey_exchange.manifest import Array
from covey_validator.scoring import NANO, Scores

from covey_bench.incentives.data import CORNERS, Bag
from covey_bench.incentives.learning import Model, Net

LEARNERS = ("right", "left")
# What makes the model worse, or gives nothing to it, in every round.
DEGRADERS = (
    *("noise", "flip", "sign", "sign5", "zero", "stale", "copy", "fake", "stolen", "invent"),
    *("liar-noise", "liar-flip"),
)
OTHERS = ("target", "trigger", "blend", "late", "liar")

_LIE = 5 * NANO


def poisoned(role: str, bag: Bag, net: Net) -> Bag:
    """The records that a member trains on; what it judges with and shows stays clean, which is its best play."""
    x, y = bag[0].copy(), bag[1].copy()
    if role in ("flip", "liar-flip"):
        y = (1 if net.classes == 1 else net.classes - 1) - y
    if role == "target":
        y[y == 7] = 1
    if role == "trigger":
        marked = round(0.3 * len(y))
        x[:marked, CORNERS], y[:marked] = 1, 0
    return x, y


@dataclass
class Attacker:
    """Changes one member's pseudo-gradient before it is encoded.

    Attributes:
        role: what it does.
        seed: of its noise.
        rounds: of the task.
    """

    role: str
    seed: int
    rounds: int
    direction: dict[str, Array] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([6, self.seed])

    @property
    def sends_as_is(self) -> bool:
        """Whether it keeps no error feedback, because what it sends is not its own."""
        return self.role in ("stale", "copy")

    def update(
        self, round_number: int, honest: Model, step: Model, last: Sequence[tuple[str, Update]]
    ) -> dict[str, Array]:
        """What goes into the encoder.

        Args:
            round_number: from 1.
            honest: what training on its records gave.
            step: the model's last step, as a pseudo-gradient.
            last: updates of the round before, its own left out.
        """
        norm = _norm(honest)
        match self.role:
            case "noise" | "liar-noise":
                return _sized(self._noise(honest), norm)
            case "sign":
                return {name: -value for name, value in honest.items()}
            case "sign5":
                return {name: np.asarray(-5 * value) for name, value in honest.items()}
            case "late" if 2 * round_number > self.rounds:
                return {name: -value for name, value in honest.items()}
            case "zero":
                return {name: np.zeros_like(value) for name, value in honest.items()}
            case "fake" | "stolen":
                return _sized(self._constant(honest), norm)
            case "blend":
                constant = _sized(self._constant(honest), norm)
                return {name: value + constant[name] for name, value in honest.items()}
            case "stale":
                return _sized(step, norm)
            case "copy" if last:
                copied = densify(last[0][1])
                return {name: value + self._jitter(value) for name, value in copied.items()}
        return dict(honest)

    def _constant(self, like: Model) -> dict[str, Array]:
        if self.direction is None:
            self.direction = self._noise(like)
        return self.direction

    def _noise(self, like: Model) -> dict[str, Array]:
        return {name: self._rng.standard_normal(value.shape).astype(np.float32) for name, value in like.items()}

    def _jitter(self, value: Array) -> Array:
        there = value != 0
        size = np.float32(0.2 * np.abs(value[there]).mean()) if there.any() else np.float32(0)
        return np.asarray(there * size * self._rng.standard_normal(value.shape).astype(np.float32))


def lie(said: Scores, friends: frozenset[str]) -> Scores:
    """What a colluding judge reveals: its friends have helped enormously, everybody else has done as much harm."""
    without = {site: said.candidate + (_LIE if site in friends else -_LIE) for site in said.without}
    return Scores(said.base, said.candidate, without)


def _norm(update: Model) -> float:
    return float(np.sqrt(sum(float(np.sum(value.astype(np.float64) ** 2)) for value in update.values())))


def _sized(update: Model, norm: float) -> dict[str, Array]:
    found = _norm(update)
    return {name: np.asarray(value * np.float32(norm / found if found else 0)) for name, value in update.items()}
