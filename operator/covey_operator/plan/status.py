"""Conditions and the words for people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from covey_api.status import Condition, ConditionStatus, Reason
from covey_api.task import Phase

from covey_operator.plan.clock import stamp

MAX_MESSAGE = 4096

PUBLISHED, ACCEPTED, CLUSTER_READY, TRAINING, GOOD_STANDING, SETTLED, SUCCEEDED, FAILED = (
    "Published",
    "Accepted",
    "ClusterReady",
    "Training",
    "GoodStanding",
    "Settled",
    "Succeeded",
    "Failed",
)
READY, REGISTERED, STAKED, EXCHANGE_REACHABLE, CHAIN_SYNCED = (
    "Ready",
    "Registered",
    "Staked",
    "ExchangeReachable",
    "ChainSynced",
)
TASK_TYPES = (PUBLISHED, ACCEPTED, CLUSTER_READY, TRAINING, GOOD_STANDING, SETTLED, SUCCEEDED, FAILED)
SUBNET_TYPES = (READY, REGISTERED, STAKED, EXCHANGE_REACHABLE, CHAIN_SYNCED)


class Conditions:
    """All conditions of an object: every type is there from the first pass, Unknown until something is known.

    `lastTransitionTime` moves only with `status` (Kubernetes API conventions).
    """

    def __init__(self, types: Iterable[str], generation: int, previous: Iterable[Condition], now: datetime) -> None:
        self._generation = generation
        self._previous = {condition.type: condition for condition in previous}
        self._now = stamp(now)
        self._said = dict.fromkeys(types, (ConditionStatus.UNKNOWN, Reason.PENDING, "Not looked at yet."))

    def say(self, kind: str, status: ConditionStatus, reason: Reason, message: str) -> None:
        """Set one condition."""
        self._said[kind] = (status, reason, message[:MAX_MESSAGE])

    def true(self, kind: str, reason: Reason, message: str) -> None:
        """Set one condition to True."""
        self.say(kind, ConditionStatus.TRUE, reason, message)

    def false(self, kind: str, reason: Reason, message: str) -> None:
        """Set one condition to False."""
        self.say(kind, ConditionStatus.FALSE, reason, message)

    def unknown(self, kind: str, reason: Reason, message: str) -> None:
        """Set one condition to Unknown."""
        self.say(kind, ConditionStatus.UNKNOWN, reason, message)

    def keep(self, kind: str) -> None:
        """Say what was said the last time."""
        before = self._previous.get(kind)
        if before is not None:
            self.say(kind, before.status, Reason(before.reason), before.message)

    def status(self, kind: str) -> ConditionStatus:
        """Status said so far."""
        return self._said[kind][0]

    def reason(self, kind: str) -> Reason:
        """Reason said so far."""
        return self._said[kind][1]

    def message(self, kind: str) -> str:
        """Message said so far."""
        return self._said[kind][2]

    def holds(self, kind: str) -> bool:
        """Whether the condition is True."""
        return self.status(kind) is ConditionStatus.TRUE

    def build(self) -> list[Condition]:
        """The conditions in their fixed order."""
        return [self._one(kind) for kind in self._said]

    def _one(self, kind: str) -> Condition:
        status, reason, message = self._said[kind]
        before = self._previous.get(kind)
        since = before.last_transition_time if before is not None and before.status == status else self._now
        return Condition(
            type=kind,
            status=status,
            reason=reason.value,
            message=message,
            observed_generation=self._generation,
            last_transition_time=since,
        )


def phase(conditions: Conditions, suspended: bool, sponsoring: bool) -> Phase:
    """One word for people; for a Planner who does not train, what the others do."""
    if conditions.holds(SUCCEEDED):
        return Phase.SUCCEEDED
    if conditions.holds(FAILED):
        return Phase.FAILED
    if conditions.status(ACCEPTED) is ConditionStatus.FALSE and not sponsoring:
        return Phase.DECLINED
    if not conditions.holds(PUBLISHED):
        return Phase.PENDING
    if conditions.reason(ACCEPTED) in (Reason.AWAITING_APPROVAL, Reason.DATASET_AMBIGUOUS):
        return Phase.AWAITING_APPROVAL
    if suspended and conditions.holds(ACCEPTED):
        return Phase.SUSPENDED
    if conditions.holds(TRAINING) or conditions.reason(TRAINING) is Reason.ROUNDS_DONE:
        return Phase.TRAINING
    if conditions.reason(TRAINING) is Reason.AWAITING_MEMBERS or not (conditions.holds(ACCEPTED) or sponsoring):
        return Phase.RECRUITING
    return Phase.STARTING


def duration_words(seconds: float) -> str:
    """A rough duration: 45s, 12m, 3h10m."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes}m"
    return f"{minutes // 60}h{minutes % 60}m" if minutes % 60 else f"{minutes // 60}h"


def number_words(value: str | float) -> str:
    """A loss or metric in five significant digits."""
    try:
        return f"{float(value):.5g}"
    except ValueError:
        return str(value)[:253]
