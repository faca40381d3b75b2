"""The chain mirror: what the contracts say, kept fresh by following their events.

Events only say where to look; values are always read from the contracts. A reorganisation, a chain that went back, or
a gap therefore costs one full read and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from covey_chain.client import Chain
from covey_chain.errors import ChainError
from covey_chain.events import Event, EventKind
from covey_chain.types import Block, Consortium, Member, PublishedTask, TaskStatus

from covey_operator.kinds import Key
from covey_operator.metrics import Metrics
from covey_operator.news import Interest, News, wait_seconds
from covey_operator.plan.model import ConsortiumOnChain, TaskOnChain

log = logging.getLogger(__name__)

EVENT_CHUNK_BLOCKS = 2_000  # public nodes refuse larger ranges
READS_AT_ONCE = 8  # one after the other a thousand tasks would keep a new leader waiting for minutes
LIVE = (TaskStatus.OPEN, TaskStatus.STARTED)
QUICK_POLL_SECONDS, QUICK_FOR_SECONDS = 0.25, 30.0  # an answer to what has just happened is on its way


@dataclass(frozen=True)
class MirrorKey:
    """One mirror follows one set of contracts; the first node is preferred."""

    rpc_urls: tuple[str, ...]
    chain_id: int
    contract: str
    confirmations: int


@dataclass
class _Followed:
    """One consortium of the mirror."""

    consortium: Consortium
    decimals: int
    symbol: str
    members: dict[str, Member] = field(default_factory=dict)
    tasks: dict[bytes, TaskOnChain] = field(default_factory=dict)
    block: int = 0

    def view(self) -> ConsortiumOnChain:
        """A value that later changes do not touch."""
        return ConsortiumOnChain(
            self.consortium, self.decimals, self.symbol, tuple(self.members.values()), dict(self.tasks), self.block
        )


class Mirror:
    """Follows one set of contracts; `run` must be running."""

    def __init__(
        self,
        key: MirrorKey,
        poll_seconds: float,
        metrics: Metrics,
        wake: Callable[[Key, float], None],
    ) -> None:
        self.key = key
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._wake = wake
        self._chain: Chain | None = None
        self._followed: dict[str, _Followed] = {}
        self._subscribers: dict[Key, Interest] = {}
        self._tokens: dict[str, tuple[int, str]] = {}
        self._task_ids: dict[tuple[str, bytes], bytes] = {}
        self._block: Block | None = None  # the last one whose events were taken
        self._error: ChainError | None = None
        self._lock, self._connecting = asyncio.Lock(), asyncio.Lock()
        self._slots = asyncio.Semaphore(READS_AT_ONCE)
        self._quick_until = 0.0
        self._stirred = asyncio.Event()
        self._moved = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether nobody is woken by this mirror."""
        return not self._subscribers

    @property
    def stalled_seconds(self) -> float:
        """Since when nothing has come of looking at the chain, not even an error."""
        return time.monotonic() - self._moved

    async def chain(self) -> Chain:
        """The connected chain.

        Raises:
            ChainError: the node or the contracts cannot be reached, or could not at the last look.
        """
        async with self._connecting:
            if self._error is not None:
                raise self._error  # a dead node must not be asked by every pass: `run` keeps trying and wakes
            return await self._connect()

    async def _reach(self) -> Chain:
        """The connected chain, whatever came of the last look."""
        async with self._connecting:
            return await self._connect()

    async def _connect(self) -> Chain:
        """Once, whoever asks: they hold the lock."""
        if self._chain is None:
            first, *others = self.key.rpc_urls
            self._chain = await Chain.connect(first, self.key.chain_id, self.key.contract, fallbacks=others)
        return self._chain

    def subscribe(self, subscriber: Key, interest: Interest) -> None:
        """From here on the subscriber is woken by changes, and when the chain fails or comes back."""
        self._subscribers[subscriber] = interest

    async def view(self, name: str) -> ConsortiumOnChain | None:
        """The consortium as of the last look at the chain, None if there is none.

        Raises:
            ChainError: the last look at the chain failed.
        """
        if self._error is None and name in self._followed:
            return self._followed[name].view()
        async with self._lock:
            if self._error is not None:
                raise self._error
            followed = self._followed.get(name) or await self._follow(name)
            return followed.view() if followed is not None else None

    def forget(self, subscriber: Key) -> None:
        """Wake nobody of that name any more."""
        self._subscribers.pop(subscriber, None)

    async def refresh(self) -> None:
        """Read now what changed, after an own transaction."""
        async with self._lock:
            await self._poll()

    async def token(self, address: str) -> tuple[int, str]:
        """Decimals and symbol of a token.

        Raises:
            ChainError: not a token, or the node does not answer.
        """
        if address not in self._tokens:
            chain = await self._reach()
            self._tokens[address] = (await chain.token_decimals(address), await chain.token_symbol(address))
        return self._tokens[address]

    async def task_id(self, planner: str, salt: bytes) -> bytes:
        """The id of a Planner's task, which never changes.

        Raises:
            ChainError: the node does not answer.
        """
        if (planner, salt) not in self._task_ids:
            self._task_ids[planner, salt] = await (await self.chain()).task_id_of(planner, salt)
        return self._task_ids[planner, salt]

    async def run(self) -> None:
        """Poll for ever; errors of the chain are remembered, shown by `view`, and tried again.

        After something has happened, an own transaction included, it looks more often for a while.
        """
        while True:
            async with self._lock:
                failed_before = self._error is not None
                try:
                    await self._poll()
                    self._error = None
                except ChainError as error:
                    self._failed(error)
            self._moved = time.monotonic()
            if (self._error is not None) != failed_before:
                self._wake_all(None)
            await self._rest()

    async def _rest(self) -> None:
        self._stirred.clear()
        with suppress(TimeoutError):
            if asyncio.get_running_loop().time() >= self._quick_until:
                async with asyncio.timeout(self._poll_seconds):
                    await self._stirred.wait()
        if asyncio.get_running_loop().time() < self._quick_until:
            await asyncio.sleep(min(QUICK_POLL_SECONDS, self._poll_seconds))

    def _stir(self) -> None:
        self._quick_until = asyncio.get_running_loop().time() + QUICK_FOR_SECONDS
        self._stirred.set()

    async def close(self) -> None:
        """Close the connections."""
        if self._chain is not None:
            await self._chain.close()

    def _failed(self, error: ChainError) -> None:
        if self._error is None:
            log.warning("chain mirror of %s: %s", self.key.contract, error)
        self._error = error
        self._metrics.chain_errors.labels(type(error).__name__).inc()

    async def _follow(self, name: str) -> _Followed | None:
        chain = await self._reach()
        consortium = await chain.consortium(name)
        if consortium is None:
            return None
        followed = _Followed(consortium, *await self.token(consortium.stake_token))
        await self._read_all(followed)
        self._followed[name] = followed
        return followed

    async def _read_all(self, followed: _Followed) -> None:
        """All or nothing: cut off in the middle, it leaves what was known before."""
        chain = await self._reach()
        newest = await self._confirmed(chain)
        head = newest.number
        members = {member.address: member for member in await chain.members(followed.consortium.id)}
        fresh = replace(followed, members=members, block=head)
        published = await chain.tasks(followed.consortium.id)

        async def one(task: PublishedTask) -> TaskOnChain:
            async with self._slots:
                return await self._read_task(chain, fresh, task)

        found = await asyncio.gather(*map(one, published))
        fresh.tasks = {task.published.task_id: task for task in found}
        live = [task.block for task in published if task.status in LIVE]
        if live:
            for event in await self._events(chain, min(live), head):
                self._note_transaction(fresh, event)
        if self._block is None:
            self._block = newest
        followed.members, followed.tasks, followed.block = fresh.members, fresh.tasks, head

    async def _poll(self) -> None:
        chain = await self._reach()
        head = await self._confirmed(chain)
        if self._block is None or await self._reorganised(chain, self._block, head):
            await self._start_again(chain, head)
        elif head.number > self._block.number:
            events = await self._events(chain, self._block.number + 1, head.number)
            for followed in self._followed.values():
                await self._take(chain, followed, events, head.number)
            self._block = head
        self._metrics.chain_block.labels(self.key.contract).set(head.number)
        self._metrics.chain_success.labels(self.key.contract).set_to_current_time()

    async def _start_again(self, chain: Chain, head: Block) -> None:
        if self._block is not None:
            log.warning("chain mirror of %s: the chain was reorganised; everything is read again", self.key.contract)
        for followed in self._followed.values():
            before = followed.view()
            await self._read_all(followed)
            if replace(followed.view(), block=before.block) == before:
                followed.block = before.block
            else:
                self._wake_all(followed.consortium.name)
        self._block = head  # last: what is cut off in the middle begins anew

    async def _take(self, chain: Chain, followed: _Followed, events: Iterable[Event], head: int) -> None:
        """Read again what the events speak of, and wake whom it concerns."""
        touched_tasks: dict[bytes, None] = {}
        touched_members: dict[str, None] = {}
        notes: list[Event] = []
        for event in events:
            task_id = event.task_id
            if task_id is not None:
                new = event.kind is EventKind.TASK_PUBLISHED and event.arguments["consortium"] == followed.consortium.id
                if new or task_id in followed.tasks:
                    touched_tasks[task_id] = None
                    notes.append(event)
            elif event.arguments.get("consortium") == followed.consortium.id and "member" in event.arguments:
                touched_members[event.arguments["member"]] = None
        for address in touched_members:
            member = await chain.member(followed.consortium.id, address)
            if member is None:
                followed.members.pop(address, None)
            else:
                followed.members[address] = member
        fresh = await asyncio.gather(*(self._read_again(chain, followed, task_id) for task_id in touched_tasks))
        published = {task.published.planner for task in fresh if task.published.task_id not in followed.tasks}
        followed.tasks.update((task.published.task_id, task) for task in fresh)
        for event in notes:
            self._note_transaction(followed, event)
        if touched_tasks or touched_members:
            followed.block = head
            self._stir()
            self._wake_concerned(followed, News(bool(touched_members), frozenset(touched_tasks), frozenset(published)))

    async def _read_again(self, chain: Chain, followed: _Followed, task_id: bytes) -> TaskOnChain:
        """A task that has changed or is new; of a known one all but the terms, which never change."""
        known = followed.tasks.get(task_id)
        async with self._slots:
            if known is not None:
                published = replace(known.published, status=await chain.task_status(task_id))
                return replace(await self._read_task(chain, followed, published), transactions=known.transactions)
            found = await chain.task(task_id)
            assert found is not None, "a task never leaves the chain within one history"
            return await self._read_task(chain, followed, found)

    async def _read_task(self, chain: Chain, followed: _Followed, published: PublishedTask) -> TaskOnChain:
        task_id = published.task_id
        participants = tuple(await chain.participants(task_id, followed.members, published))
        settlement = await chain.settlement(task_id) if published.status is not TaskStatus.OPEN else None
        claimed = {}
        if settlement is not None and settlement.total_reward:
            claimed = {one.address: await chain.claimed(task_id, one.address) for one in participants}
        over = published.status is TaskStatus.FINISHED and not (settlement and settlement.last)
        medians = await chain.settled_by_medians(task_id) if over else None
        decimals, symbol = await self.token(published.token)
        self._moved = time.monotonic()  # a first look at thousands of tasks takes its time
        return TaskOnChain(published, participants, settlement, claimed, (), decimals, symbol, medians)

    @staticmethod
    def _note_transaction(followed: _Followed, event: Event) -> None:
        """Remember who sent what for a task; of results the validators tell themselves."""
        task_id = event.task_id
        task = followed.tasks.get(task_id) if task_id is not None else None
        if task is None or task_id is None:
            return
        arguments: dict[str, Any] = event.arguments
        sender_of = {
            EventKind.TASK_PUBLISHED: ("publish", task.published.planner),
            EventKind.TASK_ACCEPTED: ("accept", arguments.get("member")),
            EventKind.TASK_STARTED: ("start", task.published.planner),
            EventKind.TASK_CANCELLED: ("cancel", task.published.planner),
            EventKind.REWARD_CLAIMED: ("claim", arguments.get("member")),
        }
        if event.kind not in sender_of:
            return
        purpose, member = sender_of[event.kind]
        entry = (purpose, str(member), event.tx_hash)
        if entry not in task.transactions:
            followed.tasks[task_id] = replace(task, transactions=(*task.transactions, entry))

    async def _events(self, chain: Chain, first: int, last: int) -> list[Event]:
        found: list[Event] = []
        for start in range(first, last + 1, EVENT_CHUNK_BLOCKS):
            found += await chain.events(start, min(last, start + EVENT_CHUNK_BLOCKS - 1))
            self._moved = time.monotonic()
        return found

    async def _confirmed(self, chain: Chain) -> Block:
        """The newest block that counts."""
        if self.key.confirmations <= 1:
            return await chain.block()
        return await chain.block(max(0, await chain.block_number() - self.key.confirmations + 1))

    @staticmethod
    async def _reorganised(chain: Chain, last: Block, head: Block) -> bool:
        """Whether `head` does not follow on the last block that was taken."""
        if head.number <= last.number:
            return head != last
        before = head.parent if head.number == last.number + 1 else (await chain.block(last.number)).hash
        return before != last.hash

    def _wake_all(self, name: str | None) -> None:
        for subscriber, interest in self._subscribers.items():
            if name in (None, interest.consortium):
                self._wake(subscriber, 0.0)

    def _wake_concerned(self, followed: _Followed, news: News) -> None:
        for subscriber, interest in self._subscribers.items():
            if interest.consortium == followed.consortium.name:
                wait = wait_seconds(interest, news, followed.tasks.get(interest.task_id or b""))
                if wait is not None:
                    self._wake(subscriber, wait)
