"""The shell around one round: carries the machine's actions out and brings their outcome back as events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable

from covey_api.status import Reason
from covey_chain.types import Proposal, ScoreReveal, Signable, UpdateHeader, Vote
from covey_exchange import segments
from covey_exchange.agreement_types import EPOCH_VIEWS
from covey_exchange.codec import DecodeError, NonFiniteUpdate, Update, encode
from covey_exchange.envelope import Message, SiteUpdate
from covey_exchange.errors import UpdateUnavailable
from covey_exchange.manifest import Array
from covey_exchange.messages import Envelope

from covey_validator import evidence, scoring, selection
from covey_validator import round as machine
from covey_validator.driver import Outcome
from covey_validator.errors import TaskFailed
from covey_validator.merged import MergedRound
from covey_validator.node import Base, Node
from covey_validator.records import CertifiedRound, Reveal
from covey_validator.rollbook import Began
from covey_validator.round_types import (
    Absorb,
    Accuse,
    Action,
    Begin,
    CatchUp,
    Certified,
    Deadline,
    Elapsed,
    Encode,
    EpochBegan,
    Evaluate,
    Evaluated,
    Event,
    Fail,
    Fetch,
    Heard,
    KeepScores,
    Left,
    Merge,
    Merged,
    Phase,
    Send,
    SetTimer,
    Setting,
    Train,
    Trained,
    UpdateArrived,
    ViewTimer,
    Weigh,
    Weighed,
)
from covey_validator.scoring import Scores
from covey_validator.store import DoubleSignature

VIEW_SECONDS = 4.0
VIEW_SECONDS_MORE = 2.0  # with each view, so that a slow network is met at some point
REVEAL_SECONDS_MAX = 30
REFETCH_SECONDS = 2.0
OTHERS_TURN = (Phase.AGREEING_UPDATES, Phase.AGREEING_SCORES, Phase.CERTIFYING)
_log = logging.getLogger(__name__)

Finished = tuple[CertifiedRound, dict[str, Array]]


class Runner:
    """Plays one round to its certificate.

    Args:
        node: the site's parts.
        setting: what is fixed beforehand.
        base: the model to start from.
        train: asks for this round's training; the outcome comes to `trained`.
        behind: called when the others have certified something else.
    """

    def __init__(
        self,
        node: Node,
        setting: Setting,
        base: Base,
        train: Callable[[Runner], None],
        behind: Callable[[], None],
    ) -> None:
        self._node = node
        self._setting = setting
        self._base = base
        self._train = train
        self._behind = behind
        self._queue: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._timers: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[Event | None]] = set()
        self._saving: asyncio.Task[None] | None = None
        self._outcome: Outcome | None = None
        self._decoded: dict[bytes, Update] = {}
        self._updates: dict[bytes, SiteUpdate] = {}
        self._merged: MergedRound | None = None
        self._finished: Finished | None = None
        self._waits_since = time.monotonic()
        self._state = machine.resume(setting, node.store.load_messages(setting.round, node.exchange.roster))

    @property
    def round(self) -> int:
        """Which round."""
        return self._setting.round

    @property
    def is_overtaken(self) -> bool:
        """Whether more than 2/3 of the stake signed another result than ours."""
        return "catch up" in self._state.done

    @property
    def base(self) -> Base:
        """The model that the round starts from."""
        return self._base

    @property
    def waited_seconds(self) -> float:
        """How long the round has waited for nothing but the votes of others.

        Until its deadline others may rightly still be getting the updates that we have.
        """
        phase, elapsed = self._state.phase, self._state.elapsed
        early = phase is Phase.AGREEING_UPDATES and Deadline.UPDATES not in elapsed
        waits = phase in OTHERS_TURN and not early and not self.is_overtaken
        return time.monotonic() - self._waits_since if waits else 0.0

    def evidence(self) -> list[Envelope]:
        """What we show of this round when the roll is called."""
        state = self._state
        return [e for a in state.agreements.values() for e in evidence.of_agreement(a, state.selections)]

    def leave(self, epoch: int) -> None:
        """We have answered a roll call."""
        self._queue.put_nowait(Left(epoch))

    def enter(self, began: Began) -> None:
        """An epoch has begun; what was shown has been delivered before."""
        self._waits_since = time.monotonic()
        self._queue.put_nowait(EpochBegan(began.epoch))

    def deliver(self, item: Message | SiteUpdate) -> None:
        """A message or update of this round from a peer."""
        if isinstance(item, SiteUpdate):
            self._start(self._take(item))
        else:
            self._queue.put_nowait(Heard(item))

    def trained(self, outcome: Outcome) -> None:
        """The driver has finished the inner steps of this round."""
        self._outcome = outcome
        self._queue.put_nowait(Trained(outcome.samples))

    def fail(self, error: Exception) -> None:
        """End the round with an error."""
        self._queue.put_nowait(error)

    async def run(self, early: Iterable[Message | SiteUpdate]) -> Finished:
        """Play the round.

        Args:
            early: what came of this round while the last one was still going on.

        Returns:
            The certified result, and the model that it leaves behind.

        Raises:
            TaskFailed: the task cannot go on.
        """
        try:
            await self._say_again()
            for item in early:
                self.deliver(item)
            await self._feed(Begin())
            while self._finished is None:
                event = await self._queue.get()
                if isinstance(event, Exception):
                    raise event
                await self._feed(event)
            return self._finished
        finally:
            await self._stop()

    async def _say_again(self) -> None:
        """Send once more what we had said before a restart, and the votes that led to it; our update has arrived."""
        for message in self._node.store.others(self.round):
            self._node.exchange.relay(message.envelope)
        for message in self._node.store.own(self.round):
            if isinstance(message.body, UpdateHeader):
                payload = self._node.store.update(self.round)
                self._node.exchange.offer(message.envelope, payload)
                await self._feed_update(SiteUpdate(message, message.body, payload))
            else:
                self._node.exchange.broadcast(message.envelope)

    async def _stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._saving is not None:
            await asyncio.gather(self._saving, return_exceptions=True)  # a thread goes on in any case
        if self._merged is not None:
            await self._merged.kept()

    async def _feed(self, event: Event) -> None:
        if isinstance(event, Heard) and self._is_of_others(event.message):
            # A lock or a later view that nobody else can explain would hold up all: a lying site may have told us
            # only. So what makes us sign is on disk before our signature is.
            self._node.store.add_message(event.message)
        self._state, actions = machine.step(self._state, event)
        progress = self._node.progress
        if progress.phase != self._state.phase or event == Elapsed(Deadline.UPDATES):
            self._waits_since = time.monotonic()
            progress.say(self._state.phase, f"round {self.round} of {progress.rounds}")
        for action in actions:
            await self._act(action)

    def _is_of_others(self, message: Message) -> bool:
        return message.site != self._setting.site and isinstance(message.body, Proposal | Vote)

    async def _act(self, action: Action) -> None:
        match action:
            case Train():
                if not self._node.store.is_absorbed(self.round):
                    self._train(self)
            case Encode(samples):
                await self._encode(samples)
            case Absorb():
                await self._absorb()
            case Send(body, attachment):
                await self._send(body, attachment)
            case SetTimer(timer):
                later = asyncio.get_running_loop().call_later
                self._timers.append(later(self._seconds(timer), self._queue.put_nowait, Elapsed(timer)))
            case Fetch(digest):
                self._start(self._fetch(digest))
            case Merge(selected):
                await self._merge_updates(dict(selected))
            case Evaluate(sites):
                self._start(self._evaluate(sites))
            case KeepScores(scores):
                self._node.store.put_scores(self.round, scores)
            case Weigh(accepted, height):
                self._start(self._weigh(accepted, height))
            case Accuse(first, second):
                _log.error("%s signed twice for one slot: %s and %s", first[0].site, first, second)
                self._node.accusations.append((first, second))
            case Certified():
                await self._certify(action)
            case CatchUp():
                self._behind()
            case Fail(reason, message):
                raise TaskFailed(reason, message, user_error=True, concerns_all=True)

    # --- our update -------------------------------------------------------------------------------------------------

    async def _encode(self, samples: int) -> None:
        assert self._outcome is not None
        node, setting = self._node, self._setting
        if node.roll.is_lost(self.round):
            await self._absorb()
            return
        residual = await asyncio.to_thread(node.store.residual, node.manifest)
        try:
            codec = node.codec.at_round(self.round)
            payload = await asyncio.to_thread(encode, self._outcome.delta, residual, codec, node.manifest, owned=True)
        except NonFiniteUpdate as error:
            raise TaskFailed(Reason.PROGRAM_ERROR, str(error), user_error=True) from error
        await asyncio.to_thread(node.store.put_update, self.round, payload)
        self._saving = asyncio.create_task(asyncio.to_thread(node.store.put_staged, self.round, residual))
        self._saving.add_done_callback(self._ended)
        leaves = await asyncio.to_thread(segments.leaves, payload)
        header = UpdateHeader(
            task_id=setting.task_id,
            round=self.round,
            attempt=0,
            site=setting.site,
            base=setting.base,
            codec=setting.codec,
            length=len(payload),
            root=segments.merkle_root(leaves),
            samples=samples,
        )
        message = node.sign(header)
        node.exchange.offer(message.envelope, payload, leaves)
        node.progress.raw_bytes += 4 * node.manifest.parameters
        node.progress.payload_bytes += len(payload)
        await self._feed_update(SiteUpdate(message, header, payload))

    async def _absorb(self) -> None:
        assert self._outcome is not None
        residual = await asyncio.to_thread(self._node.store.residual, self._node.manifest)
        try:
            residual.absorb(self._outcome.delta, self._node.codec.feedback, owned=True)
        except NonFiniteUpdate as error:
            raise TaskFailed(Reason.PROGRAM_ERROR, str(error), user_error=True) from error
        await asyncio.to_thread(self._node.store.put_absorbed, self.round, residual)
        _log.info("our update of round %d cannot count any more; it is kept for the next", self.round)

    # --- messages and updates ---------------------------------------------------------------------------------------

    async def _send(self, body: Signable, attachment: bytes) -> None:
        if self._node.roll.forbids(body):
            return  # decided upon before we answered a roll call, or we may have signed something else
        try:
            message = self._node.sign(body, attachment)
        except DoubleSignature as error:
            # Only after the state was lost and our own earlier words came back from peers: stay silent, never lie.
            _log.error("not signed: %s", error)
            return
        self._node.exchange.broadcast(message.envelope)
        await self._feed(Heard(message))

    async def _fetch(self, digest: bytes) -> Event | None:
        while digest not in self._decoded:
            try:
                return await self._take(await self._node.exchange.fetch(digest))
            except UpdateUnavailable as error:
                _log.info("%s", error)
            await asyncio.sleep(REFETCH_SECONDS)
        return None

    async def _take(self, update: SiteUpdate) -> Event | None:
        try:
            self._decoded[update.digest] = await asyncio.to_thread(self._node.decode, update)
            self._updates[update.digest] = update
        except DecodeError as error:
            _log.warning("an update that its site signed is not valid: %s", error)
            return None
        return UpdateArrived(update.message)

    async def _feed_update(self, update: SiteUpdate) -> None:
        event = await self._take(update)
        if event is not None:
            await self._feed(event)

    # --- merge, scores, result --------------------------------------------------------------------------------------

    async def _merge_updates(self, selected: dict[str, bytes]) -> None:
        updates = [(site, self._decoded[digest]) for site, digest in selected.items()]
        self._merged = await MergedRound.of(self._node, self.round, self._base, updates)
        await self._feed(Merged(self._merged.digest, await self._merged.copies()))

    async def _evaluate(self, sites: tuple[str, ...]) -> Event:
        stored = self._node.store.scores(self.round)
        if stored is not None:
            return Evaluated(Scores.decode(stored, sites) if stored != scoring.ABSTENTION else None)
        assert self._merged is not None
        return Evaluated(await self._merged.scores(sites))

    async def _weigh(self, accepted: bool, height: int) -> Event:
        assert self._merged is not None
        docket = await self._node.clerk.until(height)
        return Weighed(await self._merged.weigh(accepted), docket)

    async def _certify(self, certified: Certified) -> None:
        state, verdict = self._state, certified.verdict
        result = verdict.result
        scores = state.selections[result.scores_root]
        counted = [state.reveals[digest] for digest in selection.decode(scores).values()]
        record = CertifiedRound(
            **{name: getattr(result, name) for name in result.__dataclass_fields__},
            signatures=self._node.signers.ascending(
                {message.site: message.envelope.signature for message in certified.signatures}
            ),
            updates=state.selections[result.updates_root],
            scores=scores,
            reveals=[_reveal(message) for message in counted],
            rewards=dict(verdict.book.credited),
            ledger=verdict.book.ledger(),
            loss_nano=verdict.loss,
        )
        assert self._merged is not None
        updates = [self._updates[digest] for digest in record.selected.values()]
        self._finished = record, await self._merged.certify(record, verdict.book, updates)

    # --- time -------------------------------------------------------------------------------------------------------

    def _seconds(self, timer: Deadline | ViewTimer) -> float:
        if isinstance(timer, ViewTimer):
            return VIEW_SECONDS + VIEW_SECONDS_MORE * (timer.view % EPOCH_VIEWS)
        deadline = self._node.task.deadline_seconds
        return min(deadline, REVEAL_SECONDS_MAX) if timer == Deadline.REVEALS else deadline

    def _start(self, work: Coroutine[object, object, Event | None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Event | None] | asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, Exception):
            self._queue.put_nowait(error)
        elif error is None and (event := task.result()) is not None:
            self._queue.put_nowait(event)


def _reveal(message: Message) -> Reveal:
    body = message.body
    assert isinstance(body, ScoreReveal)
    return Reveal(site=message.site, salt=body.salt, scores=message.envelope.attachment)
