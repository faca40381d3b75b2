"""An appeal: a flagged member says that its data are real, and evidence decides. A pure machine, time in rounds.

No quality penalty is burnt while an appeal may still be filed or is open. If the member does not open its records in
time the appeal is rejected; if the evidence does not answer in time, nothing is burnt, and nobody is proven.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from covey_validator.incentives.terms import Rule


class AppealError(ValueError):
    """An event that does not fit the appeal's stage; says what would."""


class Stage(StrEnum):
    """Where an appeal stands."""

    NONE = "None"
    OPEN = "Open"
    UPHELD = "Upheld"
    REJECTED = "Rejected"
    UNANSWERED = "Unanswered"


@dataclass(frozen=True)
class Flagged:
    """A penalty was put on hold after a round."""

    round: int


@dataclass(frozen=True)
class Filed:
    """The member appeals; the beacon after this round draws the records."""

    round: int


@dataclass(frozen=True)
class Opened:
    """The drawn records were shown to the evidence, with their Merkle paths."""

    round: int


@dataclass(frozen=True)
class Ruled:
    """The evidence says whether the records are real."""

    authentic: bool


@dataclass(frozen=True)
class Elapsed:
    """A round is over."""

    round: int


Event = Flagged | Filed | Opened | Ruled | Elapsed


@dataclass(frozen=True)
class Appeal:
    """One member's appeal in one task; there is one at most.

    Attributes:
        stage: see `Stage`.
        until: last round for what is due next: filing, opening, ruling; None if nothing is.
        opened: whether the records were shown.
    """

    stage: Stage = Stage.NONE
    until: int | None = None
    opened: bool = False

    def protects(self, round_number: int) -> bool:
        """Whether what is held from the member may not be burnt after this round."""
        if self.stage is Stage.NONE:
            return self.until is not None and round_number <= self.until
        return self.stage in (Stage.OPEN, Stage.UNANSWERED)


def step(rule: Rule, appeal: Appeal, event: Event) -> Appeal:
    """Advance an appeal by one event.

    Raises:
        AppealError: filed twice or too late, opened or ruled without being open.
    """
    match event:
        case Flagged(at):
            return replace(appeal, until=at + rule.appeal_rounds) if appeal.stage is Stage.NONE else appeal
        case Filed(at):
            if appeal.stage is not Stage.NONE:
                raise AppealError(f"there is an appeal already, it is {appeal.stage.value.lower()}")
            if appeal.until is not None and at > appeal.until:
                raise AppealError(f"an appeal was possible until round {appeal.until}, this is round {at}")
            return Appeal(Stage.OPEN, at + rule.answer_rounds)
        case Opened(at):
            _require_open(appeal, at)
            return replace(appeal, until=at + rule.answer_rounds, opened=True)
        case Ruled(authentic):
            if appeal.stage is not Stage.OPEN:
                raise AppealError(f"there is nothing to rule on, the appeal is {appeal.stage.value.lower()}")
            return Appeal(Stage.UPHELD if authentic else Stage.REJECTED, None, appeal.opened)
        case Elapsed(at):
            if appeal.stage is Stage.OPEN and appeal.until is not None and at > appeal.until:
                return Appeal(Stage.UNANSWERED if appeal.opened else Stage.REJECTED, None, appeal.opened)
            return appeal


def _require_open(appeal: Appeal, at: int) -> None:
    if appeal.stage is not Stage.OPEN or appeal.opened:
        raise AppealError("records are opened once, in an appeal that is open")
    if appeal.until is not None and at > appeal.until:
        raise AppealError(f"the records were due until round {appeal.until}, this is round {at}")
