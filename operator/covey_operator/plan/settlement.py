"""What is said of a task's settlement, and the end of one that has no last result (ADR 0013)."""

from __future__ import annotations

from covey_api.quantity import token_words
from covey_api.status import Reason
from covey_chain.merkle import RewardTree

from covey_operator.plan.draft import TaskDraft
from covey_operator.plan.model import Claim, Own, TaskOnChain, TaskPlan
from covey_operator.plan.status import SETTLED, duration_words

LATE_WAKE_SECONDS = 60.0
DEADLINE_WORDS = (
    "The deadline on chain passed before the last result was settled; what nobody had earned went back to the Planner."
)


def say_settlement(draft: TaskDraft, on_chain: TaskOnChain) -> None:
    """Whether a running task is settled, how far, and what its members can do when its time is over."""
    settlement, published = on_chain.settlement, on_chain.published
    if settlement is not None and settlement.last:
        draft.conditions.true(SETTLED, Reason.SETTLED_ON_CHAIN, "The last result is settled on chain.")
    elif draft.seen.now.timestamp() > published.deadline:
        window = duration_words(published.fallback_window)
        text = (
            f"The deadline has passed without a last result. The validators settle what a quorum has signed; what it "
            f"has not, members may settle by medians: each commits within {window} of the deadline, "
            f"reveals within as long again, and then anybody settles. docs/how-to/settle-without-a-quorum.md says how."
        )
        draft.conditions.false(SETTLED, Reason.NO_QUORUM, text)
        draft.wake_in(LATE_WAKE_SECONDS)
    elif settlement is not None and settlement.round:
        text = f"Round {settlement.round} is settled; the last one is not yet."
        draft.conditions.unknown(SETTLED, Reason.SETTLING, text)


def end_without_last_result(draft: TaskDraft, own: Own, on_chain: TaskOnChain) -> TaskPlan:
    """The task is over on chain, expired or settled by medians: claim what these give us."""
    rewards = on_chain.medians
    if rewards is None:
        return draft.fail(Reason.DEADLINE_PASSED, DEADLINE_WORDS)
    reward, claimed = rewards.get(own.address, 0), on_chain.claimed.get(own.address, 0)
    if claimed < reward:
        failure = draft.seen.failure
        if failure is None:
            proof = RewardTree(rewards, on_chain.published.task_id).proof(own.address)
            return draft.plan(action=Claim(reward, tuple(proof)))
        text = f"The task is settled by medians; the reward is not yet claimed: {failure.message}"
        draft.conditions.true(SETTLED, Reason.SETTLED_BY_MEDIANS, text)
        draft.message = text
        return draft.plan(wake_seconds=draft.seen.around.error_retry_seconds)
    paid = token_words(claimed, on_chain.decimals)
    draft.set(reward=paid, claimed=paid)
    text = (
        "No quorum has signed the last result. The members have settled the task by the medians of what each says that "
        f"all have earned: {paid} have been paid to this member; the rest of the bounty went back to the Planner."
    )
    draft.conditions.true(SETTLED, Reason.SETTLED_BY_MEDIANS, text)
    return draft.fail(Reason.SETTLED_BY_MEDIANS, text)
