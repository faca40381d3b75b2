"""Events of the contracts as typed values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class EventKind(StrEnum):
    """Names of all events of the contracts."""

    CONSORTIUM_CREATED = "ConsortiumCreated"
    ADMISSION_VOTED = "AdmissionVoted"
    MEMBER_JOINED = "MemberJoined"
    MEMBER_UPDATED = "MemberUpdated"
    STAKED = "Staked"
    UNSTAKED = "Unstaked"
    WITHDRAWN = "Withdrawn"
    SLASHED = "Slashed"
    TASK_PUBLISHED = "TaskPublished"
    TASK_ACCEPTED = "TaskAccepted"
    SESSION_CHANGED = "SessionChanged"
    ACCEPTANCE_WITHDRAWN = "AcceptanceWithdrawn"
    TASK_STARTED = "TaskStarted"
    TASK_CANCELLED = "TaskCancelled"
    TASK_FINISHED = "TaskFinished"
    REFUND_DEFERRED = "RefundDeferred"
    REFUND_COLLECTED = "RefundCollected"
    ROLL_CALL_OPENED = "RollCallOpened"
    ROLL_CALL_ANSWERED = "RollCallAnswered"
    ROLL_CALL_CLOSED = "RollCallClosed"
    FAULT_PROVEN = "FaultProven"
    PENALTY_CHANGED = "PenaltyChanged"
    HOLDOUT_COMMITTED = "HoldoutCommitted"
    APPEAL_FILED = "AppealFiled"
    VERDICT_POSTED = "VerdictPosted"
    TESTIFIED = "Testified"
    RESULT_POSTED = "ResultPosted"
    REWARD_CLAIMED = "RewardClaimed"
    REWARDS_COMMITTED = "RewardsCommitted"
    REWARDS_REVEALED = "RewardsRevealed"
    SETTLED_BY_MEDIANS = "SettledByMedians"


@dataclass(frozen=True)
class Event:
    """One log entry; `arguments` have the names of the Solidity event, `block_hash` tells two histories apart."""

    kind: EventKind
    block: int
    block_hash: str
    log_index: int
    tx_hash: str
    arguments: dict[str, Any]

    @property
    def task_id(self) -> bytes | None:
        """The task that the event speaks of, if any."""
        found = self.arguments.get("taskId")
        return bytes(found) if found is not None else None
