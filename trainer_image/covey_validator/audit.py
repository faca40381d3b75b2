"""What opened records say about a member: its task recomputed from the archive, and every round's models evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from covey_api.status import Reason
from covey_exchange.codec import decode
from covey_exchange.manifest import Array, Manifest, model_digest

from covey_validator.errors import TaskFailed
from covey_validator.history import History, Obtain
from covey_validator.incentives.cases import found_in
from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.helping import RoundFacts
from covey_validator.records import CertifiedRound
from covey_validator.scoring import Scores
from covey_validator.task import Task

Losses = Callable[[Sequence[Mapping[str, Array]]], list[int]]
_JUDGE = "the auditor"


async def examine(
    task: Task,
    history: History,
    records: Sequence[CertifiedRound],
    obtain: Obtain,
    initial: Mapping[str, Array],
    member: str,
    losses: Losses,
) -> tuple[Finding, ...]:
    """Findings on a member, one for each epoch that the records cover.

    Args:
        task: the task.
        history: before its first round; follows the records, so their penalties and rewards are recomputed on the way.
        records: from round 1.
        obtain: an update by its digest.
        initial: the model that the task began with.
        member: who has appealed.
        losses: nano-losses of models on its opened records.

    Raises:
        TaskFailed: the models, penalties or rewards that were signed are not those that the updates lead to.
    """
    rule, manifest = task.rule, Manifest.from_arrays(initial)
    base, rounds = dict(initial), list[RoundFacts]()
    for record in records:
        updates = {site: await obtain(digest) for site, digest in record.selected.items()}
        codec = task.codec.at_round(record.round)
        merge = history.merge(base, [(s, decode(u.payload, codec, manifest, s)) for s, u in updates.items()])
        candidate = merge.candidate()
        scores = {}
        if member in updates:
            first, second, *rest = losses([base, candidate, *(merge.without(site) for site in updates)])
            scores[_JUDGE] = Scores(first, second, dict(zip(updates, rest, strict=True)))
        rounds.append(RoundFacts(frozenset(updates), scores))
        base = candidate if record.accepted else base
        if model_digest(base) != record.model_digest:
            raise TaskFailed(
                Reason.BASE_MODEL_MISMATCH,
                f"the model of round {record.round} is not the one that was signed; use the program of the task's "
                "image, and the same version of it",
                user_error=True,
            )
        await history.follow([record], obtain)
    size = rule.epoch_rounds
    return tuple(
        found_in(rule, epoch + 1, member, rounds[epoch * size : (epoch + 1) * size], {_JUDGE: 1})
        for epoch in range(len(rounds) // size)
    )
