"""One run of one scenario with one seed, to plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from covey_validator.incentives.evidence import Outcome
from covey_validator.incentives.geometry import Movement
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.rule import Decision, State, after_round, close_epoch, settle
from covey_validator.incentives.terms import PPM, Rule

from covey_bench.incentives.auditing import Audit, Evidence
from covey_bench.incentives.federation import Federation, Task

STAKE = 10**18
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
    """

    name: str
    task: Task
    roles: tuple[str, ...]
    evidence: Evidence = Evidence.AUDITOR
    money: Money = Money.RULE


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
    """Outturn of every member, in order; and what attacks reached."""

    members: list[Outturn]
    accepted: float
    history: list[Mapping[str, Decision]] = field(default_factory=list)


def with_rule(scenario: Scenario, seed: int, rule: Rule | None = None, absent: frozenset[str] = frozenset()) -> Run:
    """Train, judge, appeal, settle."""
    torch.set_num_threads(1)
    federation = Federation(scenario.task, scenario.roles, seed, absent)
    audit = Audit(federation, scenario.evidence, seed)
    state = State.start(rule or federation.rule, dict.fromkeys(federation.here, STAKE))
    epoch: list[RoundFacts] = []
    ladder: dict[str, list[float]] = {site: [] for site in federation.roles}
    history = []
    for number in range(1, scenario.task.rounds + 1):
        epoch.append(federation.round(state.active, state.clips))
        if number % state.rule.epoch_rounds == 0:
            state, decisions = close_epoch(state, epoch, audit.findings(state))
            history.append(decisions)
            epoch = []
            for site, account in state.accounts.items():
                ladder[site].append(100 * (account.held + account.burnt) / STAKE)
        state = audit.file(after_round(state, number))
    settled = settle(state, federation.movement.gram(), STAKE * len(federation.here) // POOL_SHARE)
    accuracy = federation.accuracy()
    members = []
    for site, role in federation.roles.items():
        if site not in state.accounts:
            members.append(Outturn(role, 0, 0, 0, None, False, accuracy[site]))
            continue
        account, end = state.accounts[site], settled[site]
        members.append(
            Outturn(
                role,
                100 * end.reward / STAKE,
                100 * end.slashed / STAKE,
                max(ladder[site]),
                account.removed,
                account.outcome is Outcome.PROVEN,
                accuracy[site],
                ladder[site],
            )
        )
    return Run(members, sum(federation.accepted) / len(federation.accepted), history)
