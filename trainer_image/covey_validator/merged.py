"""What a round's certified updates make of the model: merged, kept, judged, weighed, certified."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial

from covey_exchange import patch
from covey_exchange.codec import Update
from covey_exchange.envelope import SiteUpdate
from covey_exchange.manifest import Array, model_digest
from covey_exchange.merge import RoundMerge
from covey_exchange.proto.driver_pb2 import Candidate

from covey_validator import scoring
from covey_validator.incentives.book import Book
from covey_validator.incentives.geometry import Gram
from covey_validator.node import Base, Node
from covey_validator.records import CertifiedRound
from covey_validator.scoring import Scores
from covey_validator.steps import Step

WITHOUT = "without:"
_log = logging.getLogger(__name__)


class MergedRound:
    """One round from the merge on; build it with `of`.

    Attributes:
        digest: of the candidate.
    """

    def __init__(self, node: Node, number: int, base: Base, merge: RoundMerge, candidate: dict[str, Array]) -> None:
        self.digest = model_digest(candidate)
        self._node = node
        self._number = number
        self._base = base
        self._merge = merge
        self._candidate = candidate
        self._step = Step(base.digest, patch.of_parts(merge.changes()))
        self._keeping: asyncio.Task[bytes] | None = None

    @classmethod
    async def of(cls, node: Node, number: int, base: Base, updates: Sequence[tuple[str, Update]]) -> MergedRound:
        """Merge a round's updates, (site, update) in the certificate's order."""
        merge = await asyncio.to_thread(node.history.merge, base.parameters, updates)
        candidate = await asyncio.to_thread(merge.candidate)
        made = await asyncio.to_thread(cls, node, number, base, merge, candidate)
        # Most candidates are accepted: on disk by the time that all have judged, signed and been heard.
        keep = partial(node.store.put_model, candidate, made.digest, made._step)
        made._keeping = asyncio.create_task(asyncio.to_thread(keep))
        return made

    async def kept(self) -> None:
        """Wait until the candidate is on disk, or has failed to be: what follows removes models."""
        if self._keeping is not None:
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def copies(self) -> frozenset[str]:
        """Sites whose update repeats what others had made public."""
        return await asyncio.to_thread(self._node.history.track.copies, self._merge)

    async def scores(self, sites: Iterable[str]) -> Scores | None:
        """What our holdout says of base, candidate, and candidate without each site; None if it is too small.

        Raises:
            TaskFailed: the driver failed.
        """
        node, number = self._node, self._number
        if node.holdout_examples < node.task.terms.validation.min_holdout:
            _log.info("round %d: too few holdout records to judge; abstaining", number)
            return None
        shared = node.shared
        base = await asyncio.to_thread(shared.write_model, number, self._base.digest, self._base.parameters)
        # Once accepted it is the base that the next round is trained from.
        write = partial(shared.write_model, number + 1, self.digest, self._candidate, self._step)
        merged = await asyncio.to_thread(write)
        asked = [
            Candidate(label=label, parameters=files[0], patches=files[1:])
            for label, files in (("base", base), ("candidate", merged))
        ]
        for site in sites:
            changes = patch.of_parts(await asyncio.to_thread(self._merge.difference_without, site))
            file = await asyncio.to_thread(shared.write, number, f"without-{site}", changes)
            asked.append(Candidate(label=WITHOUT + site, parameters=file, differs_from="candidate"))
        found = await node.session.evaluate(number, asked)
        shared.clear(number)
        node.progress.metrics = dict(found["candidate"].metrics)
        losses = {label: scoring.nano_loss(e.loss_sum, e.examples) for label, e in found.items()}
        without = {label.removeprefix(WITHOUT): loss for label, loss in losses.items() if label.startswith(WITHOUT)}
        return Scores(losses["base"], losses["candidate"], without, await node.clerk.height())

    async def weigh(self, accepted: bool) -> Gram:
        """Take the round into the track; inner products of all that the sites have made of the model."""
        track = self._node.history.track
        await asyncio.to_thread(track.take, self._number, self._merge, accepted)
        return await asyncio.to_thread(track.gram)

    async def certify(self, record: CertifiedRound, book: Book, updates: Iterable[SiteUpdate]) -> dict[str, Array]:
        """Keep what the round leaves behind, in an order that a crash cannot harm; gives the model."""
        store, history = self._node.store, self._node.history
        assert self._keeping is not None
        await self._keeping
        model = self._candidate if record.accepted else self._base.parameters
        await asyncio.to_thread(store.put_model, model, record.model_digest)
        for update in updates:
            await asyncio.to_thread(self._node.archive.put, update)
        store.certify(record)
        await asyncio.to_thread(history.track.take, self._number, self._merge, record.accepted)
        history.book = book
        return model
