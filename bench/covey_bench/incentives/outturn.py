"""What is run, and what comes of it, in plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from covey_bench.incentives.auditing import Evidence
from covey_bench.incentives.federation import Task

POOL_SHARE = 5  # the bounty is a fifth of all stakes


class Money(StrEnum):
    """Which rule pays."""

    RULE = "rule"
    STAKE = "by stake"
    FLOCK = "FLock"


@dataclass(frozen=True)
class Scenario:
    """What is run.

    Attributes:
        name: for the table.
        task: what is trained.
        roles: of the members.
        evidence: what an appeal goes to.
        money: which rule pays.
        absent: roles that get their records, and are not there.
    """

    name: str
    task: Task
    roles: tuple[str, ...]
    evidence: Evidence = Evidence.AUDITOR
    money: Money = Money.RULE
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outturn:
    """What one member got; money in per cent of its stake.

    Attributes:
        role: what it was.
        reward: of the bounty.
        slashed: for good.
        held_most: the most that was held or burnt at the end of any epoch.
        removed: epoch, or None.
        proven: whether it ended as a proven minority.
        accuracy: of the final model on its holdout.
        ladder: what was held or burnt after each epoch.
    """

    role: str
    reward: float
    slashed: float
    held_most: float
    removed: int | None
    proven: bool
    accuracy: float
    ladder: list[float] = field(default_factory=list)

    @property
    def net(self) -> float:
        """Reward less slashes."""
        return self.reward - self.slashed


@dataclass(frozen=True)
class Run:
    """Outturn of every member, in order.

    Attributes:
        members: see there.
        accepted: share of the rounds.
        backdoor: share of marked digits that the final model reads as 0; NaN for other tasks.
        misread: share of sevens that it reads as 1.
        reasons: what the rule said to each member after each epoch, and at the end.
    """

    members: list[Outturn]
    accepted: float
    backdoor: float
    misread: float
    reasons: list[list[str]] = field(default_factory=list)
