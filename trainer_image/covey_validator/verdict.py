"""From what was agreed to the result of a round; a pure function, so all honest sites sign the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from covey_chain import penalties
from covey_chain.merkle import RewardTree
from covey_chain.types import RoundResult

from covey_validator import scoring
from covey_validator.incentives.book import Book
from covey_validator.incentives.docket import Docket
from covey_validator.incentives.geometry import Gram
from covey_validator.incentives.helping import RoundFacts
from covey_validator.scoring import Scores


@dataclass(frozen=True)
class Ledger:
    """What a round starts from and pays into.

    Attributes:
        stakes: participant -> snapshotted stake in base units.
        margin: share of the base loss by which a round may be worse.
        book: accounts after the round before.
    """

    stakes: Mapping[str, int]
    margin: Fraction
    book: Book

    @property
    def judges(self) -> dict[str, int]:
        """Whose scores count -> stake."""
        return {site: stake for site, stake in self.stakes.items() if site in self.book.active}


@dataclass(frozen=True)
class Verdict:
    """A round's result with what stands behind it.

    Attributes:
        result: what is signed.
        book: accounts after the round; `credited` is the tree of `result.reward_root`.
        loss: median nano-loss of the model that the round leaves behind; None when nobody scored.
    """

    result: RoundResult
    book: Book
    loss: int | None


def conclude(
    task_id: bytes,
    round_number: int,
    ledger: Ledger,
    facts: RoundFacts,
    models: tuple[bytes, bytes],
    roots: tuple[bytes, bytes],
    gram: Gram | None = None,
    epoch: int = 0,
    docket: Docket | None = None,
) -> Verdict:
    """Decide a round.

    Args:
        task_id: 32 bytes.
        round_number: from 1.
        ledger: stakes, margin, accounts until now.
        facts: sites of the certified updates, scores that count (those that abstained are left out), copies.
        models: digests of base and candidate.
        roots: agreed values of updates and scores.
        gram: inner products of what the sites have made of the model, where an epoch ends with this round.
        epoch: whose signatures the result asks for; nothing else depends on it.
        docket: appeals and verdicts that count, where an epoch ends with this round.
    """
    accepted = is_accepted(ledger, facts.scores)
    book = ledger.book.after(round_number, facts, accepted, gram, docket)
    result = RoundResult(
        task_id=task_id,
        round=round_number,
        epoch=epoch,
        model_digest=models[1] if accepted else models[0],
        updates_root=roots[0],
        scores_root=roots[1],
        reward_root=RewardTree(book.credited, task_id).root,
        penalties=penalties.digest(book.ledger()),
        total_reward=sum(book.credited.values()),
        accepted=accepted,
        last=ledger.book.ends(round_number, facts, accepted),
    )
    return Verdict(result, book, scoring.median_loss(facts.scores, ledger.judges, accepted))


def is_accepted(ledger: Ledger, scores: Mapping[str, Scores]) -> bool:
    """Whether the candidate becomes the model."""
    return scoring.is_improvement(scores, ledger.judges, ledger.margin)
