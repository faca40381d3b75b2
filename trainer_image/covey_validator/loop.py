"""Round after round until the task is done: keeps base and rewards, hands messages to the right round, catches up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from covey_chain.types import RoundResult, round_of
from covey_exchange.codec import NonFiniteUpdate
from covey_exchange.envelope import Message, SiteUpdate
from covey_exchange.messages import Envelope

from covey_validator import catchup, evidence
from covey_validator.catchup import CaughtUp
from covey_validator.driver import Outcome
from covey_validator.errors import TaskFailed
from covey_validator.history import History
from covey_validator.node import Base, Node
from covey_validator.progress import Standing
from covey_validator.records import CertifiedRound
from covey_validator.rollbook import Began
from covey_validator.runner import Runner

CATCH_UP_SECONDS = 1.0  # a peer may be ahead by a blink
CATCH_UP_AGAIN_SECONDS = 3.0
NEVER = 2**31  # no epoch comes so late
_log = logging.getLogger(__name__)


class _Overtaken(Exception):
    """The others have gone on without us; what they certified is at hand."""

    def __init__(self, found: CaughtUp) -> None:
        super().__init__()
        self.found = found


class RoundLoop:
    """Plays all rounds of a task.

    Attributes:
        base: the newest certified model.
        newest: the newest result.
    """

    def __init__(self, node: Node, base: Base, certified: Callable[[CertifiedRound], None]) -> None:
        """`certified` is told of each new result, and of the newest stored one."""
        self._node = node
        self.base = base
        self._certified = certified
        self.newest: CertifiedRound | None = node.store.newest()
        self._signed_last: set[str] = set()
        self._signed = asyncio.Event()
        self._runner: Runner | None = None
        self._later: defaultdict[int, list[Message | SiteUpdate]] = defaultdict(list)
        self._behind = asyncio.Event()
        self._training: set[asyncio.Task[None]] = set()
        self._show()

    @property
    def round(self) -> int:
        """The round that is played now or next."""
        return self.newest.round + 1 if self.newest else 1

    @property
    def is_done(self) -> bool:
        """Whether the last round is certified."""
        return self.newest is not None and self.newest.last

    async def run(self) -> CertifiedRound:
        """Play until the last round is certified.

        Raises:
            TaskFailed: the task cannot go on.
        """
        catchup.serve(self._node.exchange, self._node.store)
        helper = asyncio.create_task(self._keep_up(), name="catch up")
        try:
            while not self.is_done:
                await self._play()
        finally:
            helper.cancel()
            for task in self._training:
                task.cancel()
            await asyncio.gather(helper, *self._training, return_exceptions=True)
        assert self.newest is not None
        return self.newest

    async def until_last_signed(self) -> None:
        """Wait until all others that are active have signed the last result: nobody needs anything more from us."""
        while not self._node.roll.epoch.weights.keys() <= self._signed_last | {self._node.site}:
            await self._signed.wait()

    async def listen(self) -> None:
        """Hand what peers say to the round that it is about; runs for ever."""
        async for item in self._node.exchange.messages():
            self._hear(item)

    def _hear(self, item: Message | SiteUpdate) -> None:
        about = item.header.round if isinstance(item, SiteUpdate) else round_of(item.body)
        if about is None:
            return
        if isinstance(item, Message):
            self._note_last(item)
        if self._runner is not None and about == self._runner.round:
            self._runner.deliver(item)
        elif about >= self.round:
            self._later[about].append(item)
            if about > self.round:
                self._behind.set()

    # --- roll calls -------------------------------------------------------------------------------------------------

    @property
    def waited_seconds(self) -> float:
        """How long the round has waited for nothing but the votes of others."""
        return self._runner.waited_seconds if self._runner else 0.0

    def evidence(self) -> list[Envelope]:
        """What we show when the roll is called: locks of this round, and the newest result."""
        shown = self._runner.evidence() if self._runner else []
        return shown + (evidence.of_result(self.newest) if self.newest else [])

    def leave(self, epoch: int) -> None:
        """We have answered the roll call of an epoch; it is on disk."""
        if self._runner is not None:
            self._runner.leave(epoch)

    def enter(self, began: Began) -> None:
        """An epoch has begun; it is on disk."""
        for message in began.shown:
            self._hear(message)
        # In a round that others have certified we have nothing to say in this epoch, but to catch up.
        if self._runner is not None and self._node.roll.newest_result <= self._runner.round:
            self._runner.enter(began)

    def _note_last(self, message: Message) -> None:
        if isinstance(message.body, RoundResult) and message.body.last:
            self._signed_last.add(message.site)
            self._signed.set()
            self._signed = asyncio.Event()

    async def _play(self) -> None:
        node, number = self._node, self.round
        began = time.monotonic()
        setting = node.task.setting(number, node.site, self.base.digest, node.history.book, node.session_key)
        roll = node.roll
        left = roll.votes_from(number) if roll.newest_result < number else NEVER
        setting = replace(setting, epochs=roll.epochs, left=left)
        shown = [m for began in roll.began for m in began.shown if round_of(m.body) == number]
        if roll.is_lost(number):
            _log.warning("round %d: what this site has signed in it was lost; it is silent until it is over", number)
        await asyncio.to_thread(node.watermark.signs_in_round, number, node.store)
        # Messages of the round before stay: a peer may still lack a signature of it.
        node.exchange.prune(number - 1)
        self._runner = Runner(node, setting, self.base, self._train, self._behind.set)
        try:
            record, parameters = await self._runner.run([*shown, *self._later.pop(number, [])])
            found = CaughtUp((record,), parameters)
        except _Overtaken as overtaken:
            found = overtaken.found
            _log.info("caught up from round %d to %d", number, found.records[-1].round)
            await self._follow(found.records)
        finally:
            self._runner = None
            node.session.drop_waiting()
        await asyncio.to_thread(self._advance, found)
        node.progress.round_seconds.append((time.monotonic() - began) / len(found.records))
        self._show()

    async def _follow(self, records: Sequence[CertifiedRound]) -> None:
        """Take in what was certified without us; from the first round on if we have weighed another outcome."""
        node = self._node
        obtain = partial(node.archive.obtain, node.exchange)
        if node.history.track.round != records[0].round - 1:
            node.history = History(node.task, node.manifest, node.clerk.until)
            await node.history.follow(node.store.history(self.newest), obtain)
        await node.history.follow(records, obtain)

    def _advance(self, found: CaughtUp) -> None:
        """Make certified rounds ours; on disk when this returns."""
        store, last = self._node.store, found.records[-1]
        store.put_model(found.parameters, last.model_digest)
        for record in found.records:
            if store.certified(record.round) is None:
                store.certify(record)
        for record in found.records:
            store.finish_round(record)
        before = self.base.digest
        self.base = Base(found.parameters, last.model_digest)
        self.newest = last
        store.keep_models({before, last.model_digest})
        for number in [number for number in self._later if number < self.round]:
            del self._later[number]

    def _show(self) -> None:
        progress, newest = self._node.progress, self.newest
        progress.rounds = self._node.task.terms.rounds.count
        progress.model_digest = self.base.digest
        progress.look_at(self._node.exchange)  # what is counted on after a restart must not wait for somebody to ask
        self._node.store.put_counters(
            {
                "bytesSent": progress.bytes_sent,
                "rawBytes": progress.raw_bytes,
                "payloadBytes": progress.payload_bytes,
            }
        )
        if newest is not None:
            self._certified(newest)
            progress.round = newest.round
            progress.reward = newest.rewards[self._node.site]
            before, progress.standing = progress.standing, Standing.of(self._node.history.book, self._node.site)
            if progress.standing is not None and progress.standing != before:
                _log.info("standing: %s", progress.standing.words)
            if newest.loss_nano is not None:
                progress.loss = newest.loss_nano / 1e9
            verdict = "accepted" if newest.accepted else "discarded"
            _log.info("round %d certified: %s, loss %s", newest.round, verdict, progress.loss)
            if newest.last and newest.round < progress.rounds:
                rounds = self._node.history.book.plateau.rounds
                _log.info("no round of the last %d found a lower loss: the task ends here", rounds)

    # --- training ---------------------------------------------------------------------------------------------------

    def _train(self, runner: Runner) -> None:
        task = asyncio.create_task(self._train_round(runner), name=f"train round {runner.round}")
        self._training.add(task)
        task.add_done_callback(self._training.discard)

    async def _train_round(self, runner: Runner) -> None:
        """Have a round trained; what comes when the round is over stays in the error feedback."""
        node = self._node
        try:
            model = runner.base
            write = node.shared.write_model
            files = await asyncio.to_thread(write, runner.round, model.digest, model.parameters)
            outcome = await node.session.train(runner.round, model.digest, files)
            node.shared.clear(runner.round - 1)
            if self._runner is runner:
                runner.trained(outcome)
            else:
                await self._absorb(runner.round, outcome)
        except TaskFailed as failure:
            (self._runner or runner).fail(failure)

    async def _absorb(self, number: int, outcome: Outcome) -> None:
        node = self._node
        residual = await asyncio.to_thread(node.store.residual, node.manifest)
        try:
            residual.absorb(outcome.delta, node.codec.feedback, owned=True)
        except NonFiniteUpdate as error:
            _log.warning("the late update of round %d is dropped: %s", number, error)
            return
        await asyncio.to_thread(node.store.put_residual, residual)
        _log.info("the update of round %d came when it was over; it is kept for the next", number)

    # --- coming back ------------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """When peers are ahead, get what they certified and end the round with it."""
        while True:
            await self._behind.wait()
            self._behind.clear()
            await asyncio.sleep(CATCH_UP_SECONDS)
            runner = self._runner
            if runner is None or not self._is_behind(runner):
                continue
            node = self._node
            held = {self.base.digest: self.base.parameters}
            found = await catchup.ask(node.exchange, node.signers, node.manifest, node.site, runner.round, held)
            if found is not None and self._runner is runner:
                runner.fail(_Overtaken(found))
            elif self._is_behind(runner):
                await asyncio.sleep(CATCH_UP_AGAIN_SECONDS)
                self._behind.set()

    def _is_behind(self, runner: Runner) -> bool:
        return self._runner is runner and (runner.is_overtaken or any(n > runner.round for n in self._later))
