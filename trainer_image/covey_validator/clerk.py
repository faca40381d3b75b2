"""Reads what the chain says of appeals, and says how far it has read: the rule's one input that is in no message.

Validators read at different times, so each reveals with its scores up to which block it has read, and the round agrees
on a block by stake (`scoring.height_of`). As of that block the chain says the same to all, whenever they read it; so
nothing is kept on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from covey_chain.client import Chain
from covey_chain.errors import ChainError
from covey_chain.events import Event, EventKind
from covey_chain.wallet import Wallet

from covey_validator.history import Hear
from covey_validator.incentives.docket import Deposition, Docket, Filed, Verdict
from covey_validator.incentives.holdout import Commitment
from covey_validator.task import Task

LOOK_SECONDS = 2.0
_log = logging.getLogger(__name__)

Connect = Callable[[], Awaitable[tuple[Chain, Wallet]]]


def taken(docket: Docket, events: Iterable[Event], height: int) -> Docket:
    """The docket after the events of the blocks up to `height`, in the order of the chain."""
    commitments, filed = dict(docket.commitments), dict(docket.filed)
    verdicts, depositions = list(docket.verdicts), list(docket.depositions)
    for event in events:
        said = event.arguments
        match event.kind:
            case EventKind.HOLDOUT_COMMITTED:
                commitments[said["member"]] = Commitment(bytes(said["root"]), int(said["records"]))
            case EventKind.APPEAL_FILED:
                filed[said["member"]] = Filed(event.block, bytes.fromhex(event.block_hash[2:]))
            case EventKind.VERDICT_POSTED:
                of = said["member"], int(said["epoch"]), bool(said["authentic"]), bytes(said["findings"])
                verdicts.append(Verdict(event.block, *of))
            case EventKind.TESTIFIED:
                who = said["judge"], said["member"], int(said["epoch"])
                depositions.append(Deposition(event.block, *who, bytes(said["findings"])))
            case _:
                pass
    return Docket(height, commitments, filed, tuple(verdicts), tuple(depositions))


async def read(chain: Chain, task_id: bytes, docket: Docket, height: int) -> Docket:
    """Read on, up to a block.

    Raises:
        ChainError: the node does not answer, or knows no such task.
    """
    first = docket.height + 1
    if not docket.height:
        published = await chain.task(task_id)
        assert published is not None, "the task was read from this chain"
        first = published.block
    return taken(docket, await chain.events(first, height, task_id), height)


def hearing(chain: Chain, task: Task) -> Hear:
    """Dockets as of any block that the chain has, for who looks once."""

    async def hear(height: int) -> Docket:
        return await read(chain, task.task_id, Docket(), height) if task.has_evidence else Docket(height)

    return hear


class Clerk:
    """One site's reader of the chain, for one task."""

    def __init__(self, connect: Connect, task: Task, confirmations: int) -> None:
        """`connect` gives chain and wallet; it may fail with a `ChainError`, and is asked again."""
        self._connect, self._task, self._confirmations = connect, task, confirmations
        self._lock = asyncio.Lock()
        self._docket = Docket()

    async def height(self) -> int:
        """Block up to which the chain has been read by now; an earlier one if its node does not answer soon.

        0 in a task without evidence.
        """
        if self._task.has_evidence:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look()
        return self._docket.height

    async def until(self, height: int) -> Docket:
        """Appeals and verdicts as of a block; waits until the chain has been read so far."""
        if not self._task.has_evidence:
            return Docket(height)
        while self._docket.height < height:
            await self._look()
            if self._docket.height < height:
                await asyncio.sleep(LOOK_SECONDS)
        return self._docket.until(height)

    async def _look(self) -> None:
        async with self._lock:
            try:
                chain, _ = await self._connect()
                final = await chain.block_number() - self._confirmations + 1
                if final > self._docket.height:
                    self._docket = await read(chain, self._task.task_id, self._docket, final)
            except ChainError as error:
                _log.info("appeals not followed: %s", error)
