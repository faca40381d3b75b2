"""What follows from the certified rounds of a task: everybody's account, and what each has made of the model.

Only from signed results, the scores and the updates that they name, and what the chain says of appeals; so it can be
done again at any time, by anybody. It is done again after a restart, and when rounds were missed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from covey_api.quantity import ratio
from covey_api.status import Reason
from covey_exchange.codec import Update, decode
from covey_exchange.envelope import SiteUpdate
from covey_exchange.manifest import Array, Manifest
from covey_exchange.merge import Clip, RoundMerge

from covey_validator.errors import TaskFailed
from covey_validator.incentives.docket import Docket
from covey_validator.records import CertifiedRound
from covey_validator.task import Task
from covey_validator.track import Track

Obtain = Callable[[bytes], Awaitable[SiteUpdate]]
Hear = Callable[[int], Awaitable[Docket]]


class History:
    """One task, up to the newest certified round.

    Attributes:
        book: accounts.
        track: movements.
    """

    def __init__(self, task: Task, manifest: Manifest, hear: Hear) -> None:
        """`hear` gives appeals and verdicts as of a block, as soon as the chain has been read so far."""
        self._task = task
        self._hear = hear
        self._manifest = manifest
        self.book = task.book()
        self.track = Track(self.book.state.rule)

    def merge(self, base: Mapping[str, Array], updates: Sequence[tuple[str, Update]]) -> RoundMerge:
        """The merge of the next round; `base` may be empty where no model is asked for."""
        terms = self._task.terms.aggregation
        return RoundMerge(base, updates, float(ratio(terms.outer_learning_rate)), Clip(terms.clip), self.book.clips)

    async def follow(self, records: Iterable[CertifiedRound], obtain: Obtain) -> None:
        """Take in rounds that were certified without us, or before a restart.

        Args:
            records: without a gap, from the round after the newest.
            obtain: an update by its digest.

        Raises:
            TaskFailed: more than 2/3 of the stake signed other accounts than these rounds lead to.
        """
        for record in records:
            updates = {site: await obtain(digest) for site, digest in record.selected.items()}
            docket = None
            seen = record.facts(frozenset())
            if self.book.closes(record.round, seen, record.accepted):
                docket = await self._hear(self.book.hears(seen))
            await asyncio.to_thread(self._take, record, updates, docket)

    def _take(self, record: CertifiedRound, updates: Mapping[str, SiteUpdate], docket: Docket | None) -> None:
        codec = self._task.codec.at_round(record.round)
        decoded = [(site, decode(u.payload, codec, self._manifest, site)) for site, u in updates.items()]
        merge = self.merge({}, decoded)
        copies = self.track.copies(merge)
        self.track.take(record.round, merge, record.accepted)
        now = record.round, record.facts(copies), record.accepted
        gram = self.track.gram() if self.book.closes(*now) else None
        self.book = self.book.after(*now, gram, docket)
        if (self.book.credited, self.book.ledger()) != (record.rewards, record.ledger):
            raise TaskFailed(
                Reason.BASE_MODEL_MISMATCH,
                f"the rewards and penalties that were signed in round {record.round} are not those that its updates "
                "and scores lead to; use the same image digest at every site",
                user_error=True,
            )
