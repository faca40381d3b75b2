"""Where the driver leaves commands and the workers of a site leave answers: an asyncio actor on the head node.

Ray Train has one `fit()` for a whole task, and a worker group that it restarts by itself after a failure. Neither side
therefore calls the other: workers ask for the command after the last one they know, which after a restart is the
command that was being worked on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from covey_trainer.errors import TrainerError

POLL_SECONDS = 20.0
INITIALISE = 0  # number of the command that every worker group begins with unasked


@dataclass(frozen=True)
class Command:
    """What all workers of a site shall do next.

    Attributes:
        number: counts up from 1.
        kind: what to do.
        round_number: of the task, for `train`.
        metrics: whether to compute the program's metrics, for `evaluate`.
        parameters: references to parameter sets in Ray's object store; one for `train`, any number for `evaluate`.
    """

    number: int
    kind: Literal["train", "evaluate"]
    round_number: int = 0
    metrics: bool = False
    parameters: tuple[Any, ...] = ()


class Mailbox:
    """Holds at most one command and its answers. All methods run on one event loop."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._command: Command | None = None
        self._answered = INITIALISE
        self._answers: dict[int, Any] = {}
        self._failure: TrainerError | None = None
        self._stopped = False
        self._changed = asyncio.Condition()

    async def post(self, command: Command) -> None:
        """Give all workers their next command; the driver waits for one outcome before it posts again."""
        async with self._changed:
            self._command = command
            self._answered = command.number
            self._answers = {}
            self._changed.notify_all()

    async def outcome(self, number: int, seconds: float) -> list[Any] | TrainerError | None:
        """Answers of all workers by rank, or a worker's failure; None when there is neither after `seconds`."""
        found: list[Any] | TrainerError | None = await self._wait(
            lambda: self._failure or self._complete(number), seconds
        )
        return found

    async def stop(self) -> None:
        """Let the workers return from their loop."""
        async with self._changed:
            self._stopped = True
            self._changed.notify_all()

    async def stopped(self) -> bool:
        """Whether the task is over for the workers."""
        return self._stopped

    async def command(self, after: int) -> Command | None:
        """The unanswered command with a number above `after`; None after `POLL_SECONDS` or a stop."""
        found = await self._wait(lambda: self._unanswered(after) or self._stopped, POLL_SECONDS)
        return found if isinstance(found, Command) else None

    async def answer(self, number: int, rank: int, answer: Any) -> None:  # noqa: ANN401
        """A worker's part of an outcome; answers to a command that is no longer current are dropped."""
        async with self._changed:
            if number == self._answered:
                self._answers[rank] = answer
                self._changed.notify_all()

    async def fail(self, error: TrainerError) -> None:
        """A worker met an error that a restart cannot mend. The first one counts, and the workers stop."""
        async with self._changed:
            self._failure = self._failure or error
            self._stopped = True
            self._changed.notify_all()

    def _complete(self, number: int) -> list[Any] | None:
        if number != self._answered or len(self._answers) < self._workers:
            return None
        return [self._answers[rank] for rank in range(self._workers)]

    def _unanswered(self, after: int) -> Command | None:
        command = self._command
        if command is None or command.number <= after or self._complete(command.number) is not None:
            return None
        return command

    async def _wait(self, look: Callable[[], Any], seconds: float) -> Any:  # noqa: ANN401
        async with self._changed:
            try:
                async with asyncio.timeout(seconds):
                    return await self._changed.wait_for(look)
            except TimeoutError:
                return look()
