"""From what was agreed to the result of a round; a pure function, so all honest sites sign the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from covey_chain.merkle import RewardTree
from covey_chain.types import ZERO_HASH, RoundResult

from covey_validator import rewards, scoring
from covey_validator.scoring import Scores


@dataclass(frozen=True)
class Ledger:
    """What a round starts from and pays into.

    Attributes:
        stakes: participant -> snapshotted stake in base units.
        margin: share of the base loss by which a round may be worse.
        pool: what one round can pay, in base units.
        cumulative: participant -> rewards of all earlier rounds, in base units.
        standing: participant -> help in all earlier rounds, in nano-loss.
    """

    stakes: Mapping[str, int]
    margin: Fraction
    pool: int
    cumulative: Mapping[str, int]
    standing: Mapping[str, int]


@dataclass(frozen=True)
class Verdict:
    """A round's result with what stands behind it.

    Attributes:
        result: what is signed.
        cumulative: participant -> rewards up to and with this round; the tree of `result.reward_root`.
        standing: participant -> help up to and with this round, in nano-loss.
        loss: median nano-loss of the model that the round leaves behind; None when nobody scored.
    """

    result: RoundResult
    cumulative: Mapping[str, int]
    standing: Mapping[str, int]
    loss: int | None


def conclude(
    task_id: bytes,
    round_number: int,
    last: bool,
    ledger: Ledger,
    included: tuple[str, ...],
    models: tuple[bytes, bytes],
    roots: tuple[bytes, bytes],
    scores: Mapping[str, Scores],
    epoch: int = 0,
) -> Verdict:
    """Decide a round.

    Args:
        task_id: 32 bytes.
        round_number: from 1.
        last: whether the task ends here.
        ledger: stakes, margin, pool, earlier rewards and help.
        included: sites of the certified updates, ascending by address.
        models: digests of base and candidate.
        roots: agreed values of updates and scores.
        scores: validator -> its scores; those that abstained are left out.
        epoch: whose signatures the result asks for; nothing else depends on it.
    """
    accepted = scoring.is_improvement(scores, ledger.stakes, ledger.margin)
    standing = rewards.accumulate(ledger.standing, scoring.helpfulness(scores, ledger.stakes, included))
    earned = rewards.shares(ledger.pool, {site: standing[site] for site in included}) if accepted else {}
    cumulative = rewards.accumulate(ledger.cumulative, earned)
    result = RoundResult(
        task_id=task_id,
        round=round_number,
        epoch=epoch,
        model_digest=models[1] if accepted else models[0],
        updates_root=roots[0],
        scores_root=roots[1],
        reward_root=RewardTree(cumulative, task_id).root,
        penalties=ZERO_HASH,
        total_reward=sum(cumulative.values()),
        accepted=accepted,
        last=last,
    )
    return Verdict(result, cumulative, standing, scoring.median_loss(scores, ledger.stakes, accepted))
