"""Asks the validators of running tasks how far they are; a pass is only woken when the answer has changed."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable

import aiohttp
from pydantic import ValidationError

from covey_operator.kinds import Key
from covey_operator.plan.names import STATUS_PORT
from covey_operator.plan.report import Progress

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2.0
SUBNET_SECONDS = 5.0  # a Subnet's pass looks at all of its tasks: what these answer must not wake it too often
MOST_PER_SECOND = 50.0  # of questions: with more tasks than that allows, each is asked less often
MAX_ANSWER_BYTES = 256 * 1024


class ProgressPoller:
    """One answer per running task; kept until the task has another head or is forgotten."""

    def __init__(self, poll_seconds: float, wake: Callable[[Key, float], None], port: int = STATUS_PORT) -> None:
        self._poll_seconds = poll_seconds
        self._wake = wake
        self._port = port
        self._heads: dict[Key, str] = {}
        self._subnets: dict[Key, Key] = {}
        self._answers: dict[Key, Progress] = {}
        self._turns: OrderedDict[Key, None] = OrderedDict()
        self._asking: set[Key] = set()
        self._session: aiohttp.ClientSession | None = None

    def watch(self, key: Key, head_ip: str | None, subnet: Key) -> None:
        """Ask this head from now on; None asks no more but keeps the last answer.

        The Subnet is woken too when peers become reachable or unreachable, or nobody can tell any more: that is all it
        shows of progress.
        """
        if head_ip is None:
            if self._heads.pop(key, None) is not None:
                self._wake(subnet, SUBNET_SECONDS)
        else:
            if self._heads.get(key) != head_ip:
                self._turns[key] = None
                self._turns.move_to_end(key, last=False)  # a new one need not wait until all others were asked
            self._heads[key] = head_ip
            self._subnets[key] = subnet

    def forget(self, key: Key) -> None:
        """The task is gone."""
        self._heads.pop(key, None)
        self._answers.pop(key, None)
        self._subnets.pop(key, None)

    def answer(self, key: Key) -> Progress | None:
        """The newest answer."""
        return self._answers.get(key)

    def live(self, key: Key) -> Progress | None:
        """The newest answer if the head is still asked: what an ended task said of its peers is history."""
        return self._answers.get(key) if key in self._heads else None

    async def ask_first(self, key: Key) -> bool:
        """Ask a head that is watched but of which nothing is known yet; whether it has answered.

        So the first pass of an operator that has just started shows what the last one of the operator before it did.
        """
        if key in self._answers or key in self._asking or key not in self._heads:
            return False
        return await self._ask(key, self._heads[key])

    async def run(self) -> None:
        """Ask all heads in turn, evenly spread, for ever; who is slow to answer keeps nobody waiting."""
        async with asyncio.TaskGroup() as group:
            while True:
                key = self._next()
                if key is not None and key not in self._asking:
                    group.create_task(self._ask_and_wake(key, self._heads[key]))
                await asyncio.sleep(max(self._poll_seconds / max(1, len(self._heads)), 1 / MOST_PER_SECOND))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _next(self) -> Key | None:
        """Whose turn it is; its next one comes after all others'."""
        while self._turns:
            key, _ = self._turns.popitem(last=False)
            if key in self._heads:
                self._turns[key] = None
                return key
        return None

    async def _ask_and_wake(self, key: Key, head_ip: str) -> None:
        if await self._ask(key, head_ip):
            self._wake(key, 0.0)

    async def _ask(self, key: Key, head_ip: str) -> bool:
        """Whether it has answered something new."""
        self._asking.add(key)
        host = f"[{head_ip}]" if ":" in head_ip else head_ip
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        try:
            async with self._session.get(f"http://{host}:{self._port}/status") as response:
                response.raise_for_status()
                fresh = Progress.model_validate_json(await response.content.read(MAX_ANSWER_BYTES))
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            # A validator that starts, ends or hangs shows in its pod's status; the last answer stands meanwhile.
            log.debug("no progress from %s at %s: %s", key, head_ip, error)
            return False
        finally:
            self._asking.discard(key)
        before = self._answers.get(key)
        if self._heads.get(key) != head_ip or fresh == before:
            return False
        self._answers[key] = fresh
        if before is None or _reachable(before) != _reachable(fresh):
            self._wake(self._subnets[key], SUBNET_SECONDS)
        return True


def _reachable(progress: Progress) -> tuple[bool, bool]:
    return bool(progress.peers), bool(progress.peers_connected)
