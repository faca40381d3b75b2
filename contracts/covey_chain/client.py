"""Reads of the contracts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from covey_chain.connection import Connection
from covey_chain.errors import RpcUnavailable
from covey_chain.events import EventKind
from covey_chain.fallback import FallbackState, unpack
from covey_chain.types import (
    ZERO_ADDRESS,
    ZERO_HASH,
    Appeal,
    Consortium,
    EndedCall,
    Holdout,
    Member,
    Participant,
    Penalty,
    PendingCall,
    PostedVerdict,
    PublishedTask,
    Role,
    RollCallState,
    SettlementState,
    TaskStatus,
)


class _Epoch(NamedTuple):
    """`RollCalls.Epoch` of the contracts."""

    members: int
    stake: int
    expelled: int
    newcomers: int
    first_block: int
    closed_block: int
    closes_at: int

    def has(self, place: int) -> bool:
        return bool(self.members >> place & 1)


class Chain(Connection):
    """A set of contracts on one chain, found from its Settlement address. Build it with `connect`."""

    async def consortium(self, name: str) -> Consortium | None:
        """A consortium by name; None if nobody has made it."""
        identity = bytes(keccak(text=name))
        c = await self.call(self.registry_contract.functions.consortiumOf(identity))
        return None if c[1] == ZERO_ADDRESS else Consortium(identity, *c)

    async def member(self, consortium: bytes, address: str) -> Member | None:
        """A member; None if the address has not joined."""
        owner = to_checksum_address(address)
        entry = await self.call(self.registry_contract.functions.memberOf(consortium, owner))
        roles, joined, updated, stake, unbonding, _, _, held, tls, metadata, endpoint = entry
        if joined == 0:
            return None
        certificate = await self._certificate(consortium, owner, updated)
        return Member(owner, Role(roles), tls, endpoint, metadata, certificate, stake, unbonding, joined, held)

    async def _certificate(self, consortium: bytes, owner: str, block: int) -> bytes:
        wanted = {EventKind.MEMBER_JOINED, EventKind.MEMBER_UPDATED}
        found = [
            event.arguments["certificate"]
            for event in await self.events(block, block)
            if event.kind in wanted
            and (event.arguments["consortium"], event.arguments["member"]) == (consortium, owner)
        ]
        return bytes(found[-1]) if found else b""

    async def members(self, consortium: bytes) -> list[Member]:
        """All members in the order in which they joined."""
        addresses = await self.call(self.registry_contract.functions.members(consortium))
        found = await self._several([self.member(consortium, address) for address in addresses])
        return [member for member in found if member is not None]

    async def task(self, task_id: bytes) -> PublishedTask | None:
        """A task; None if it has not been published.

        Raises:
            RpcUnavailable: the node has lost the log with the terms.
        """
        terms, planner, status, block, *_ = await self.call(self.market_contract.functions.taskOf(task_id))
        if status == TaskStatus.NONE:
            return None
        consortium, spec_hash, token, bounty, low, high, *limits, appeal_window, fallback_window, auditor, _ = terms
        rounds, accept_by, deadline, answer_window = limits
        published = [event for event in await self.events(block, block) if event.kind is EventKind.TASK_PUBLISHED]
        spec = next((bytes(e.arguments["spec"]) for e in published if e.task_id == task_id), None)
        if spec is None or keccak(spec) != spec_hash:
            lost = f"the log with the terms of task 0x{task_id.hex()}: only nodes that keep their whole history have it"
            raise RpcUnavailable(self.url, lost, refused=True)
        return PublishedTask(
            task_id, consortium, planner, spec_hash, spec, token, bounty, low, high, rounds, accept_by, deadline,
            answer_window, TaskStatus(status), block, appeal_window, None if auditor == ZERO_ADDRESS else auditor,
            fallback_window,
        )  # fmt: skip

    async def task_id_of(self, planner: str, salt: bytes) -> bytes:
        """The id that a task of `planner` with `salt` has or will have, 32 bytes."""
        return bytes(await self.call(self.market_contract.functions.taskIdOf(to_checksum_address(planner), salt)))

    async def task_status(self, task_id: bytes) -> TaskStatus:
        """Where a task stands; NONE if it has not been published."""
        return TaskStatus(await self.call(self.market_contract.functions.statusOf(task_id)))

    async def tasks(self, consortium: bytes) -> list[PublishedTask]:
        """All tasks of a consortium in the order of publication."""
        identities = await self.call(self.market_contract.functions.tasksOf(consortium))
        found = await self._several([self.task(bytes(identity)) for identity in identities])
        return [task for task in found if task is not None]

    async def participants(
        self, task_id: bytes, members: Mapping[str, Member] | None = None, task: PublishedTask | None = None
    ) -> list[Participant]:
        """Who has accepted, sorted by address; with snapshotted stake once the task has started.

        Args:
            task_id: 32 bytes.
            members: address -> member of those that the caller knows; the others are read.
            task: as the caller has just read it; else it is read.
        """
        functions = self.market_contract.functions
        if task is None:
            terms, _, status, *_ = await self.call(functions.taskOf(task_id))
            consortium = terms[0]
        else:
            consortium, status = task.consortium, task.status
        started = status in (TaskStatus.STARTED, TaskStatus.FINISHED)

        async def one(place: int, address: str) -> Participant | None:
            member = (members or {}).get(address) or await self.member(consortium, address)
            roles, session_key, snapshot, endpoint, expelled, removed = await self.call(
                functions.participantOf(task_id, address)
            )
            if member is None or roles == 0:
                return None
            stake = snapshot if started else member.stake
            return Participant(
                place, address, Role(roles), session_key, endpoint, stake, member.tls_key_hash, member.certificate,
                expelled, removed,
            )  # fmt: skip

        addresses = await self.call(functions.participants(task_id))
        found = await self._several([one(place, address) for place, address in enumerate(addresses)])
        return sorted((p for p in found if p is not None), key=lambda p: p.address.lower())

    async def settlement(self, task_id: bytes) -> SettlementState:
        """What has been settled of a task."""
        round_, last, _, _, total, digest, root = await self.call(self.settlement_contract.functions.stateOf(task_id))
        return SettlementState(round_, digest, root, total, last)

    async def roll_calls(self, task_id: bytes, confirmations: int = 1) -> RollCallState:
        """Whose stake counts in a started task, and the roll call that is on.

        Args:
            task_id: 32 bytes.
            confirmations: blocks after which something counts; its own block is the first.

        Raises:
            RpcUnavailable: the node has lost logs with answers.
        """
        head = await self.block_number() - max(0, confirmations - 1)
        settlement, market = self.settlement_contract.functions, self.market_contract.functions
        number = await self.epoch(task_id, head)
        members, stakes, expelled, _ = await self.call(market.snapshotOf(task_id), head)
        now = _Epoch(*await self.call(settlement.epochAt(task_id, number), head))
        called = _Epoch(*await self.call(settlement.epochAt(task_id, number + 1), head))
        counting = (now.members if number else -1) & ~expelled
        active = {m: int(s) for i, (m, s) in enumerate(zip(members, stakes, strict=True)) if counting >> i & 1}
        answers = await self._answers(task_id, number, now.first_block, now.closed_block) if number else {}
        call = None
        if called.first_block:
            evidence = await self._answers(task_id, number + 1, called.first_block, head)
            call = PendingCall(number + 1, called.closes_at or None, evidence)
        return RollCallState(number, active, answers, call)

    async def roll_call(self, task_id: bytes, epoch: int) -> EndedCall:
        """An ended roll call, of whatever epoch from 1 on.

        Raises:
            ValueError: it is not over.
            RpcUnavailable: the node has lost logs with answers.
        """
        record = _Epoch(*await self.call(self.settlement_contract.functions.epochAt(task_id, epoch)))
        if not record.closed_block:
            raise ValueError(f"the roll call of epoch {epoch} is not over")
        members, stakes, *_ = await self.call(self.market_contract.functions.snapshotOf(task_id))
        active = {m: int(s) for i, (m, s) in enumerate(zip(members, stakes, strict=True)) if record.has(i)}
        answers = await self._answers(task_id, epoch, record.first_block, record.closed_block)
        return EndedCall(epoch, active, answers)

    async def epoch(self, task_id: bytes, block: int | None = None) -> int:
        """The newest epoch of a task whose roll call is over."""
        return int(await self.call(self.settlement_contract.functions.epochOf(task_id), block))

    async def has_answered(self, task_id: bytes, epoch: int, site: str) -> bool:
        """Whether a participant has answered the roll call of an epoch, or, once it is over, counts in it."""
        record = _Epoch(*await self.call(self.settlement_contract.functions.epochAt(task_id, epoch)))
        members = await self.call(self.market_contract.functions.participants(task_id))
        return any(record.has(i) for i, member in enumerate(members) if member == site)

    async def _answers(self, task_id: bytes, epoch: int, first: int, last: int) -> dict[str, bytes]:
        found = {
            str(event.arguments["member"]): bytes(event.arguments["evidence"])
            for event in await self.events(first, last, task_id)
            if event.kind is EventKind.ROLL_CALL_ANSWERED and event.arguments["epoch"] == epoch
        }
        if not found:
            lost = f"the logs of roll call {epoch} of task 0x{task_id.hex()}: they are in blocks {first} to {last}"
            raise RpcUnavailable(self.url, lost, refused=True)
        return found

    async def penalty_of(self, task_id: bytes, member: str) -> Penalty | None:
        """What a participant has lost in a task for quality so far; None for a stranger."""
        participants = await self.call(self.market_contract.functions.participants(task_id))
        address = to_checksum_address(member)
        if address not in participants:
            return None
        place = participants.index(address)
        return Penalty(place, *await self.call(self.settlement_contract.functions.penaltyAt(task_id, place)))

    async def holdout_of(self, task_id: bytes, member: str) -> Holdout | None:
        """What a member has committed to for a task; None if it has not."""
        functions = self.market_contract.functions
        root, records = await self.call(functions.holdoutOf(task_id, to_checksum_address(member)))
        return Holdout(root, records) if records else None

    async def appeal_of(self, task_id: bytes, member: str, block: int | None = None) -> Appeal:
        """A member's appeal in a task, and what the auditor has said, now or as of a block.

        Raises:
            RpcUnavailable: the node has lost the log with the findings.
        """
        address = to_checksum_address(member)
        function = self.settlement_contract.functions.appealOf(task_id, address)
        filed, epoch, authentic, spoken = await self.call(function, block)
        if not epoch:
            return Appeal(filed or None, None)
        for event in await self.events(spoken, spoken, task_id):
            found = event.arguments
            if event.kind is EventKind.VERDICT_POSTED and (found["member"], found["epoch"]) == (address, epoch):
                return Appeal(filed or None, PostedVerdict(epoch, authentic, bytes(found["findings"]), spoken))
        raise RpcUnavailable(self.url, f"the log with the verdict on {address}: it is in block {spoken}", refused=True)

    async def appeals(self, task_id: bytes, block: int | None = None) -> dict[str, Appeal]:
        """Member -> appeal of all participants that have filed one or about whom the auditor has spoken."""
        members = await self.call(self.market_contract.functions.participants(task_id))
        found = await self._several([self.appeal_of(task_id, member, block) for member in members])
        nothing = Appeal(None, None)
        return {member: appeal for member, appeal in zip(members, found, strict=True) if appeal != nothing}

    async def fallback(self, task_id: bytes) -> FallbackState:
        """How far a task has come to be settled by medians."""
        market, fallback = self.market_contract.functions, self.fallback_contract.functions
        terms, _, status, *_ = await self.call(market.taskOf(task_id))
        members, stakes, expelled, _ = await self.call(market.snapshotOf(task_id))
        counting, revealed, settled_block = await self.call(fallback.courseOf(task_id))
        if not counting and (epoch := await self.epoch(task_id)):
            counting = _Epoch(*await self.call(self.settlement_contract.functions.epochAt(task_id, epoch))).members
        elif not counting:
            counting = -1
        active = frozenset(m for i, m in enumerate(members) if counting & ~expelled & 1 << i)
        said = await self._several([self.call(fallback.commitmentOf(task_id, member)) for member in members])
        opened = {i: member for i, member in enumerate(members) if revealed & 1 << i}
        packed = await self._several([self.call(fallback.revealedBy(task_id, place)) for place in opened])
        return FallbackState(
            deadline=terms[8],
            window=terms[11],
            open=status == TaskStatus.STARTED,
            stakes=dict(zip(members, map(int, stakes), strict=True)),
            active=active,
            committed={m: bytes(digest) for m, digest in zip(members, said, strict=True) if digest != ZERO_HASH},
            revealed={m: unpack(each) for m, each in zip(opened.values(), packed, strict=True)},
            settled_block=settled_block or None,
        )

    async def settled_by_medians(self, task_id: bytes) -> dict[str, int] | None:
        """Participant -> cumulative reward, the leaves of the last tree; None if it has not come to medians.

        Raises:
            RpcUnavailable: the node has lost the log with the rewards.
        """
        _, _, block = await self.call(self.fallback_contract.functions.courseOf(task_id))
        if not block:
            return None
        for event in await self.events(block, block, task_id):
            if event.kind is EventKind.SETTLED_BY_MEDIANS:
                members = await self.call(self.market_contract.functions.participants(task_id))
                return dict(zip(members, map(int, event.arguments["rewards"]), strict=True))
        raise RpcUnavailable(self.url, f"the log with the medians: it is in block {block}", refused=True)

    async def claimed(self, task_id: bytes, member: str) -> int:
        """Reward that has been paid to a member, in base units."""
        return int(await self.call(self.settlement_contract.functions.claimed(task_id, to_checksum_address(member))))

    async def token_balance(self, token: str, address: str) -> int:
        """ERC-20 balance in base units."""
        return int(await self.call(self.token(token).functions.balanceOf(to_checksum_address(address))))

    async def token_decimals(self, token: str) -> int:
        """Decimal places of an ERC-20 token."""
        return int(await self.call(self.token(token).functions.decimals()))

    async def token_symbol(self, token: str) -> str:
        """Symbol of an ERC-20 token."""
        return str(await self.call(self.token(token).functions.symbol()))

    async def native_balance(self, address: str) -> int:
        """Balance of the chain's own coin in wei."""
        return int(await self.ask("eth_getBalance", self.web3.eth.get_balance(to_checksum_address(address))))
