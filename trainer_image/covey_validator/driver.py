"""The driver's session: one piece of work at a time, given again to a driver that comes back.

The driver polls `next` with what it has done and gets what comes next. It says Hello after every (re)connection; then
it is given the program again and the work that it had not finished.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from covey_api.status import Reason
from covey_exchange.manifest import Array, Manifest
from covey_exchange.proto.driver_pb2 import (
    Candidate,
    Evaluate,
    Evaluated,
    Evaluation,
    Finish,
    Initialise,
    Initialised,
    Report,
    Tensors,
    Train,
    Trained,
    Wait,
    Work,
)

from covey_validator.errors import TaskFailed
from covey_validator.tensors import SharedDirectory, TensorsInvalid

POLL_SECONDS = 20.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What the driver says after it has loaded the program and split the data."""

    parameters: dict[str, Array]
    train_examples: int
    holdout_examples: int


@dataclass(frozen=True)
class Outcome:
    """What the driver says after the inner steps of a round."""

    delta: dict[str, Array]
    samples: int
    loss: float


@dataclass(eq=False)
class _Item:
    work: Work
    reply: asyncio.Future[Trained | list[Evaluation]] = field(default_factory=asyncio.Future)
    handed: bool = False


class DriverSession:
    """Work for the driver, and its answers.

    Attributes:
        manifest: names and shapes of the model, once they are known; tensors are held to it.
        ray_version, workers: what the driver said about itself.
    """

    def __init__(self, terms_json: str, seed: int, shared: SharedDirectory, manifest: Manifest | None = None) -> None:
        self._initialise = Work(initialise=Initialise(terms_json=terms_json, seed=seed))
        self._shared = shared
        self.manifest = manifest
        self.ray_version = ""
        self.workers = 0
        self._start: asyncio.Future[Start] = asyncio.Future()
        self._failure: asyncio.Future[TaskFailed] = asyncio.Future()
        self._items: deque[_Item] = deque()
        self._finish: Work | None = None
        self._said_finish = asyncio.Event()
        self._is_initialised = False
        self._generation = 0
        self._changed = asyncio.Event()

    # --- for the round loop -----------------------------------------------------------------------------------------

    async def start(self) -> Start:
        """The driver's first parameters and counts; waits for the driver."""
        return await asyncio.shield(self._start)

    async def failed(self) -> TaskFailed:
        """Wait until the driver reports a failure."""
        return await asyncio.shield(self._failure)

    async def train(self, round_number: int, digest: bytes, files: Sequence[Tensors]) -> Outcome:
        """Have a round's inner steps done, from a model with this digest: a whole one, then patches.

        The delta may have NaN or infinity: the error feedback notices when it adds it.

        Raises:
            TaskFailed: the delta cannot be used.
        """
        reply = cast(
            Trained,
            await self._do(Work(train=Train(round=round_number, base=files[0], patches=files[1:], digest=digest))),
        )
        delta = await asyncio.to_thread(self._read, reply.delta, finite=False)
        return Outcome(delta, reply.samples, reply.loss)

    async def evaluate(self, round_number: int, candidates: Sequence[Candidate]) -> dict[str, Evaluation]:
        """Have models evaluated on the holdout; label -> evaluation.

        Raises:
            TaskFailed: not every label was answered.
        """
        work = Work(evaluate=Evaluate(round=round_number, candidates=candidates, metrics=True))
        reply = cast("list[Evaluation]", await self._do(work))
        found = {evaluation.label: evaluation for evaluation in reply}
        asked = {candidate.label for candidate in candidates}
        if found.keys() != asked:
            raise TaskFailed(Reason.PROGRAM_ERROR, f"the driver evaluated {sorted(found)}, not {sorted(asked)}")
        return found

    def drop_waiting(self) -> None:
        """Take back work that the driver has not begun; its round is over."""
        for item in [item for item in self._items if not item.handed]:
            self._items.remove(item)
            item.reply.cancel()

    async def finish(self, reason: str, message: str, wait_seconds: float) -> None:
        """Tell the driver that it is over; waits a while for it to ask."""
        self._finish = Work(finish=Finish(reason=reason, message=message[:4096]))
        self._notify()
        try:
            async with asyncio.timeout(wait_seconds):
                await self._said_finish.wait()
        except TimeoutError:
            _log.info("the driver did not come to hear that the task is over")

    # --- for the server ---------------------------------------------------------------------------------------------

    async def next(self, report: Report) -> Work:
        """Take a report, and answer with work as soon as there is some."""
        await self._take(report)
        self._generation += 1
        generation = self._generation
        try:
            async with asyncio.timeout(POLL_SECONDS):
                while True:
                    if generation != self._generation:
                        return Work(wait=Wait())  # a newer connection of the driver has taken over
                    work = self._ready()
                    if work is not None:
                        return work
                    await self._changed.wait()
        except TimeoutError:
            return Work(wait=Wait())

    async def _take(self, report: Report) -> None:
        match report.WhichOneof("report"):
            case "hello":
                self.ray_version, self.workers = report.hello.ray_version, report.hello.workers
                _log.info("the driver says hello: ray %s, %d workers", self.ray_version or "none", self.workers)
                self._is_initialised = False
                for item in self._items:
                    item.handed = False
            case "initialised":
                await self._take_initialised(report.initialised)
            case "trained":
                self._answer("train", report.trained.round, report.trained)
            case "evaluated":
                self._answer("evaluate", report.evaluated.round, report.evaluated)
            case "failure":
                failure = report.failure
                reason = failure.reason or Reason.PROGRAM_ERROR
                self._fail(TaskFailed(reason, failure.message, user_error=failure.user_error))
            case _:
                pass

    async def _take_initialised(self, report: Initialised) -> None:
        try:
            parameters = await asyncio.to_thread(self._read, report.parameters)
        except TaskFailed as failure:
            self._fail(failure)
            return
        self.manifest = self.manifest or Manifest.from_arrays(parameters)
        self._is_initialised = True
        if not self._start.done():
            self._start.set_result(Start(parameters, report.train_examples, report.holdout_examples))

    def _answer(self, kind: str, round_number: int, report: Trained | Evaluated) -> None:
        for item in list(self._items):
            asked = getattr(item.work, kind)
            if item.handed and item.work.WhichOneof("work") == kind and asked.round == round_number:
                self._items.remove(item)
                if not item.reply.done():
                    item.reply.set_result(report if isinstance(report, Trained) else list(report.evaluations))
                return
        _log.info("the driver reports on round %d what nobody asked for (any more)", round_number)

    def _ready(self) -> Work | None:
        if self._finish is not None:
            self._said_finish.set()
            return self._finish
        if not self._is_initialised:
            return self._initialise
        if self._items and not self._items[0].handed:
            self._items[0].handed = True
            return self._items[0].work
        return None

    async def _do(self, work: Work) -> Trained | list[Evaluation]:
        item = _Item(work)
        self._items.append(item)
        self._notify()
        return await item.reply

    def _read(self, tensors: Tensors, *, finite: bool = True) -> dict[str, Array]:
        try:
            return self._shared.read(tensors, self.manifest, finite=finite)
        except TensorsInvalid as error:
            message = f"The program's tensors cannot be used: {error}. Check the learning rate and the data."
            raise TaskFailed(Reason.PROGRAM_ERROR, message, user_error=True) from error

    def _fail(self, failure: TaskFailed) -> None:
        if not self._failure.done():
            self._failure.set_result(failure)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
