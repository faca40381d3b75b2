"""Reads of the contracts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3.exceptions import TransactionNotFound
from web3.types import FilterParams

from covey_chain import abi, rpc
from covey_chain.errors import NoContract, Reverted, RpcUnavailable, WrongChain
from covey_chain.events import Event, EventKind
from covey_chain.signing import Domain
from covey_chain.types import (
    Consortium,
    EndedCall,
    Member,
    Participant,
    Penalty,
    PendingCall,
    PublishedTask,
    Role,
    RollCallState,
    SettlementState,
    TaskStatus,
)

T = TypeVar("T")

# Providers refuse wider log queries; 10 000 blocks is what the strictest of the common ones answers.
LOG_BLOCKS = 10_000
_AT_ONCE = 8
_ZERO_ADDRESS = "0x" + "00" * 20


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


class Chain:
    """A set of contracts on one chain, found from its Settlement address. Build it with `connect`."""

    def __init__(
        self, url: str, chain_id: int, settlement: str, timeout_seconds: float, fallbacks: Sequence[str] = ()
    ) -> None:
        self.web3 = rpc.connect(url, timeout_seconds, fallbacks, chain_id)
        self.url, self.chain_id = url, chain_id
        self.settlement_contract = self._contract("Settlement", settlement)
        self.registry_contract: Any = None
        self.market_contract: Any = None
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @classmethod
    async def connect(
        cls,
        rpc_url: str,
        chain_id: int,
        contract: str,
        timeout_seconds: float = 10.0,
        fallbacks: Sequence[str] = (),
    ) -> Self:
        """Reach a node and make sure that it is of the right chain and knows the contracts.

        Args:
            rpc_url: JSON-RPC end point of a node.
            chain_id: EIP-155 chain id.
            contract: address of Settlement.
            timeout_seconds: for each answer.
            fallbacks: further nodes, asked while those before them are of no use (see `failover`).

        Raises:
            RpcUnavailable: the node does not answer.
            WrongChain: it is of another chain.
            NoContract: there is no Settlement at the address.
        """
        chain = cls(rpc_url, chain_id, to_checksum_address(contract), timeout_seconds, fallbacks)
        try:
            found = await chain.ask("eth_chainId", chain.web3.eth.chain_id)
            if found != chain_id:
                raise WrongChain(rpc_url, chain_id, found)
            functions = chain.settlement_contract.functions
            try:
                registry, market = await chain.call(functions.registry()), await chain.call(functions.market())
            except (NoContract, Reverted) as error:
                raise NoContract(contract, chain_id) from error
        except BaseException:
            await chain.close()
            raise
        chain.registry_contract = chain._contract("MemberRegistry", registry)
        chain.market_contract = chain._contract("TaskMarket", market)
        return chain

    async def close(self) -> None:
        """Close the connections to the node."""
        await self.web3.provider.disconnect()

    @property
    def domain(self) -> Domain:
        """EIP-712 domain of everything signed for these contracts."""
        return Domain(self.chain_id, self.settlement_contract.address)

    def _contract(self, name: str, address: str) -> Any:
        return self.web3.eth.contract(address=to_checksum_address(address), abi=abi.artifact(name).abi)

    async def ask(self, call: str, request: Awaitable[T]) -> T:
        """Await a request of web3, with typed errors (see `rpc.ask`)."""
        return await rpc.ask(self.url, call, request)

    async def call(self, function: Any, block: int | None = None) -> Any:
        """Call a view of a contract, in its newest state or that of a block, with typed errors."""
        try:
            return await self.ask(function.fn_name, function.call(block_identifier=block))
        except NoContract as error:
            what = f"(with {function.fn_name})"
            raise NoContract(function.address, self.chain_id, what, "the address") from error

    async def _several(self, reads: Sequence[Awaitable[T]]) -> list[T]:
        async def one(read: Awaitable[T]) -> T:
            async with self._slots:
                return await read

        return await asyncio.gather(*map(one, reads))

    def token(self, address: str) -> Any:
        """An ERC-20 contract at `address`."""
        return self._contract("DevToken", address)

    async def block_number(self) -> int:
        """Height of the newest block."""
        return int(await self.ask("eth_blockNumber", self.web3.eth.block_number))

    async def timestamp(self) -> int:
        """Seconds since 1970 of the newest block: the contracts' clock."""
        return int((await self.ask("eth_getBlockByNumber", self.web3.eth.get_block("latest")))["timestamp"])

    async def receipt(self, tx_hash: str) -> Any:
        """The receipt of a mined transaction, None while it is not mined."""
        try:
            return await self.ask("eth_getTransactionReceipt", self._receipt(tx_hash))
        except TransactionNotFound:
            return None

    async def _receipt(self, tx_hash: str) -> Any:
        return await self.web3.eth.get_transaction_receipt(bytes.fromhex(tx_hash[2:]))  # type: ignore[arg-type]

    async def consortium(self, name: str) -> Consortium | None:
        """A consortium by name; None if nobody has made it."""
        identity = bytes(keccak(text=name))
        c = await self.call(self.registry_contract.functions.consortiumOf(identity))
        return None if c[1] == _ZERO_ADDRESS else Consortium(identity, *c)

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
        consortium, spec_hash, token, bounty, low, high, rounds, accept_by, deadline, window, _ = terms
        published = [event for event in await self.events(block, block) if event.kind is EventKind.TASK_PUBLISHED]
        spec = next((bytes(e.arguments["spec"]) for e in published if e.task_id == task_id), None)
        if spec is None or keccak(spec) != spec_hash:
            lost = f"the log with the terms of task 0x{task_id.hex()}: only nodes that keep their whole history have it"
            raise RpcUnavailable(self.url, lost, refused=True)
        return PublishedTask(
            task_id, consortium, planner, spec_hash, spec, token, bounty, low, high, rounds, accept_by, deadline,
            window, TaskStatus(status), block,
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

    async def participants(self, task_id: bytes) -> list[Participant]:
        """Who has accepted, sorted by address; with snapshotted stake once the task has started."""
        functions = self.market_contract.functions
        terms, _, status, *_ = await self.call(functions.taskOf(task_id))
        consortium, started = terms[0], status in (TaskStatus.STARTED, TaskStatus.FINISHED)

        async def one(place: int, address: str) -> Participant | None:
            member = await self.member(consortium, address)
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
        round_, last, _, total, digest, root = await self.call(self.settlement_contract.functions.stateOf(task_id))
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

    async def events(self, from_block: int, to_block: int, task_id: bytes | None = None) -> list[Event]:
        """Events of all three contracts in the blocks from_block … to_block, in the order of the chain.

        With `task_id` only those that speak of the task.

        Who follows the chain reads again from some blocks before the last one that it has seen, and tells histories
        apart by `block_hash`: the newest blocks may be replaced.
        """
        found: list[Event] = []
        for first in range(from_block, to_block + 1, LOG_BLOCKS):
            found += await self._events(first, min(to_block, first + LOG_BLOCKS - 1), task_id)
        return found

    async def _events(self, from_block: int, to_block: int, task_id: bytes | None) -> list[Event]:
        contracts = {c.address: c for c in (self.registry_contract, self.market_contract, self.settlement_contract)}
        wanted: FilterParams = {"fromBlock": from_block, "toBlock": to_block, "address": list(contracts)}
        if task_id is not None:
            wanted["topics"] = [None, "0x" + task_id.hex()]
        logs = await self.ask("eth_getLogs", self.web3.eth.get_logs(wanted))
        return [self._event(contracts[log["address"]], log) for log in logs]

    @staticmethod
    def _event(contract: Any, log: Any) -> Event:
        decoded = contract.get_event_by_topic("0x" + bytes(log["topics"][0]).hex()).process_log(log)
        return Event(
            EventKind(decoded["event"]),
            int(log["blockNumber"]),
            "0x" + bytes(log["blockHash"]).hex(),
            int(log["logIndex"]),
            "0x" + bytes(log["transactionHash"]).hex(),
            dict(decoded["args"]),
        )
