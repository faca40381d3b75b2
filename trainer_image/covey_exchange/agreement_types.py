"""What goes into the agreement machine and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from covey_chain.types import Proposal, Vote

NIL = bytes(32)
PREVOTE = 1
PRECOMMIT = 2

EPOCH_VIEWS = 1 << 16  # views of one epoch; no round ever comes near so many


class Stage(IntEnum):
    """Where a site stands within a view; also the name of the timer that ends it."""

    PROPOSE = 0
    PREVOTE = 1
    PRECOMMIT = 2


@dataclass(frozen=True)
class Epoch:
    """Whose stake counts in the views from `number` * 2^16 on, until the next epoch (ADR 0008).

    Attributes:
        number: 0 for everybody who took part in the start of the task, then one more for each roll call.
        weights: stake in base units by address, of the active sites only.
        evidence: signed prevotes that were shown when the roll was called, of all rounds and steps; the shell has
            verified them. All sites are given the same.
    """

    number: int
    weights: Mapping[str, int]
    evidence: tuple[Received, ...] = ()

    def __post_init__(self) -> None:
        if any(weight < 0 for weight in self.weights.values()) or sum(self.weights.values()) == 0:
            raise ValueError("weights must not be negative, nor all zero")

    @cached_property
    def _order(self) -> list[str]:
        return sorted(self.weights, key=str.lower)

    @cached_property
    def total(self) -> int:
        """All stake that counts."""
        return sum(self.weights.values())

    @property
    def first_view(self) -> int:
        """Where it begins."""
        return self.number * EPOCH_VIEWS

    def proposer(self, round_number: int, view: int) -> str:
        """The site that proposes in a view; independent of stake, so that a lone big stake cannot stall the others."""
        return self._order[(round_number + view) % len(self._order)]

    def is_quorum(self, weight: int) -> bool:
        """More than 2/3 of all stake."""
        return 3 * weight > 2 * self.total

    def has_honest(self, weight: int) -> bool:
        """More than 1/3 of all stake: at least one of these sites is honest."""
        return 3 * weight > self.total


@dataclass(frozen=True)
class Instance:
    """What all sites know beforehand about one decision.

    Attributes:
        task_id: 32 bytes.
        round: training round.
        step: 0 for updates, 1 for scores.
        site: our own address.
        everybody: epoch 0, all participants, ourselves included.
    """

    task_id: bytes
    round: int
    step: int
    site: str
    everybody: Epoch

    def __post_init__(self) -> None:
        if self.site not in self.everybody.weights:
            raise ValueError(f"{self.site} does not take part in this agreement")


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Start:
    """This site has what it needs to take part; until then it only listens."""


@dataclass(frozen=True)
class Candidate:
    """The value that this site proposes when its turn comes and no earlier value binds it."""

    value: bytes


@dataclass(frozen=True)
class Judged:
    """The shell knows whether a value is valid. A value never judged is waited for until the timer says nil."""

    value: bytes
    valid: bool


@dataclass(frozen=True)
class Received:
    """A message whose signature the shell has verified; from ourselves: signed and stored."""

    message: Proposal | Vote
    signature: bytes = b""


@dataclass(frozen=True)
class Timeout:
    """A timer that was asked for by `Schedule` has run out."""

    stage: Stage
    view: int


@dataclass(frozen=True)
class Leave:
    """This site has signed a roll call (and stored it): it signs nothing in an epoch before that one."""

    epoch: int


@dataclass(frozen=True)
class Enter:
    """A roll call is over; epochs come in order, each once."""

    epoch: Epoch


Event = Start | Candidate | Judged | Received | Timeout | Leave | Enter


# --- actions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sign:
    """Sign, store, send to all, and give back as `Received`."""

    message: Proposal | Vote


@dataclass(frozen=True)
class Schedule:
    """Send back `Timeout(stage, view)` after a time that grows with the view."""

    stage: Stage
    view: int


@dataclass(frozen=True)
class Judge:
    """Find out whether a value is valid, fetching what it names if need be, and send back `Judged`."""

    value: bytes


@dataclass(frozen=True)
class Certificate:
    """A decision and the precommits, sorted by site, that prove it to anyone."""

    value: bytes
    view: int
    precommits: tuple[Received, ...]


@dataclass(frozen=True)
class Equivocation:
    """Two different messages that one site signed for one slot: proof of fraud."""

    first: Received
    second: Received


Action = Sign | Schedule | Judge | Certificate | Equivocation
