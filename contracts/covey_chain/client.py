"""Reads of the contracts."""

from __future__ import annotations

from typing import Any, Self

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from web3 import AsyncHTTPProvider, AsyncWeb3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError

from covey_chain import abi
from covey_chain.errors import NoContract, Reverted, WrongChain
from covey_chain.events import Event, EventKind
from covey_chain.rpc import ask
from covey_chain.signing import Domain
from covey_chain.types import (
    Consortium,
    Member,
    Participant,
    PublishedTask,
    Role,
    SettlementState,
    TaskStatus,
)

_ZERO_ADDRESS = "0x" + "00" * 20


class Chain:
    """A set of contracts on one chain, found from its Settlement address. Build it with `connect`."""

    def __init__(self, web3: AsyncWeb3[Any], url: str, chain_id: int, settlement: str) -> None:
        self.web3, self.url, self.chain_id = web3, url, chain_id
        self.settlement_contract = self._contract("Settlement", settlement)
        self.registry_contract: Any = None
        self.market_contract: Any = None

    @classmethod
    async def connect(cls, rpc_url: str, chain_id: int, contract: str, timeout_seconds: float = 10.0) -> Self:
        """Reach a node and make sure that it is of the right chain and knows the contracts.

        Raises:
            RpcUnavailable: the node does not answer.
            WrongChain: it is of another chain.
            NoContract: there is no Settlement at the address.
        """
        provider = AsyncHTTPProvider(rpc_url, request_kwargs={"timeout": timeout_seconds})
        web3: AsyncWeb3[Any] = AsyncWeb3(provider)
        chain = cls(web3, rpc_url, chain_id, to_checksum_address(contract))
        try:
            found = await ask(rpc_url, "eth_chainId", web3.eth.chain_id)
            if found != chain_id:
                raise WrongChain(rpc_url, chain_id, found)
            try:
                functions = chain.settlement_contract.functions
                registry, market = await functions.registry().call(), await functions.market().call()
            except (BadFunctionCallOutput, ContractLogicError) as error:
                raise NoContract(contract, chain_id) from error
        except BaseException:
            await provider.disconnect()
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

    async def call(self, function: Any) -> Any:
        """Call a view of a contract, with typed errors."""
        return await ask(self.url, function.fn_name, function.call())

    def token(self, address: str) -> Any:
        """An ERC-20 contract at `address`."""
        return self._contract("DevToken", address)

    async def block_number(self) -> int:
        """Height of the newest block."""
        return int(await ask(self.url, "eth_blockNumber", self.web3.eth.block_number))

    async def timestamp(self) -> int:
        """Seconds since 1970 of the newest block: the contracts' clock."""
        return int((await ask(self.url, "eth_getBlockByNumber", self.web3.eth.get_block("latest")))["timestamp"])

    async def consortium(self, name: str) -> Consortium | None:
        """A consortium by name; None if nobody has made it."""
        identity = keccak(text=name)
        c = await self.call(self.registry_contract.functions.consortiumOf(identity))
        return None if c[1] == _ZERO_ADDRESS else Consortium(identity, *c)

    async def member(self, consortium: bytes, address: str) -> Member | None:
        """A member; None if the address has not joined."""
        functions = self.registry_contract.functions
        roles, joined, _, tls, metadata, stake, unbonding, endpoint = await self.call(
            functions.memberOf(consortium, to_checksum_address(address))
        )
        if joined == 0:
            return None
        certificate = await self._certificate(consortium, address, joined)
        return Member(
            to_checksum_address(address), Role(roles), tls, endpoint, metadata, certificate, stake, unbonding, joined
        )

    async def _certificate(self, consortium: bytes, address: str, since: int) -> bytes:
        wanted = {"consortium": consortium, "member": to_checksum_address(address)}
        events = self.registry_contract.events
        logs: list[Any] = []
        for event in (events.MemberJoined, events.MemberUpdated):
            logs += await ask(self.url, "eth_getLogs", event.get_logs(from_block=since, argument_filters=wanted))
        newest = max(logs, key=lambda log: (log["blockNumber"], log["logIndex"]), default=None)
        return bytes(newest["args"]["certificate"]) if newest else b""

    async def members(self, consortium: bytes) -> list[Member]:
        """All members in the order in which they joined."""
        addresses = await self.call(self.registry_contract.functions.members(consortium))
        found = [await self.member(consortium, address) for address in addresses]
        return [member for member in found if member is not None]

    async def task(self, task_id: bytes) -> PublishedTask | None:
        """A task; None if it has not been published."""
        terms, planner, status, block, _, _ = await self.call(self.market_contract.functions.taskOf(task_id))
        if status == TaskStatus.NONE:
            return None
        logs = await ask(
            self.url,
            "eth_getLogs",
            self.market_contract.events.TaskPublished.get_logs(
                from_block=block, to_block=block, argument_filters={"taskId": task_id}
            ),
        )
        spec = bytes(logs[0]["args"]["spec"]) if logs else b""
        if keccak(spec) != terms[1]:
            raise Reverted("TaskPublished", f"the spec of task 0x{task_id.hex()} does not have the hash in its terms")
        consortium, spec_hash, token, bounty, low, high, rounds, accept_by, deadline, _ = terms
        return PublishedTask(
            task_id, consortium, planner, spec_hash, spec, token, bounty, low, high, rounds, accept_by, deadline,
            TaskStatus(status), block,
        )  # fmt: skip

    async def task_id_of(self, planner: str, salt: bytes) -> bytes:
        """The id that a task of `planner` with `salt` has or will have, 32 bytes."""
        return bytes(await self.call(self.market_contract.functions.taskIdOf(to_checksum_address(planner), salt)))

    async def tasks(self, consortium: bytes) -> list[PublishedTask]:
        """All tasks of a consortium in the order of publication."""
        logs = await ask(
            self.url,
            "eth_getLogs",
            self.market_contract.events.TaskPublished.get_logs(
                from_block=0, argument_filters={"consortium": consortium}
            ),
        )
        found = [await self.task(bytes(log["args"]["taskId"])) for log in logs]
        return [task for task in found if task is not None]

    async def participants(self, task_id: bytes) -> list[Participant]:
        """Who has accepted, sorted by address; with snapshotted stake once the task has started."""
        task = await self.task(task_id)
        if task is None:
            return []
        functions = self.market_contract.functions
        found = []
        for address in await self.call(functions.participants(task_id)):
            roles, session_key, stake, endpoint = await self.call(functions.participantOf(task_id, address))
            member = await self.member(task.consortium, address)
            if member is not None:
                held = stake if task.status in (TaskStatus.STARTED, TaskStatus.FINISHED) else member.stake
                found.append(
                    Participant(
                        address, Role(roles), session_key, endpoint, held, member.tls_key_hash, member.certificate
                    )
                )
        return sorted(found, key=lambda p: p.address.lower())

    async def settlement(self, task_id: bytes) -> SettlementState:
        """What has been settled of a task."""
        round_, last, digest, root, total = await self.call(self.settlement_contract.functions.stateOf(task_id))
        return SettlementState(round_, digest, root, total, last)

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
        return int(await ask(self.url, "eth_getBalance", self.web3.eth.get_balance(to_checksum_address(address))))

    async def events(self, from_block: int, to_block: int) -> list[Event]:
        """Events of all three contracts in the blocks from_block … to_block, in the order of the chain."""
        if from_block > to_block:
            return []
        contracts = (self.registry_contract, self.market_contract, self.settlement_contract)
        raw = await ask(
            self.url,
            "eth_getLogs",
            self.web3.eth.get_logs(
                {"fromBlock": from_block, "toBlock": to_block, "address": [c.address for c in contracts]}
            ),
        )
        known = {kind.value for kind in EventKind}
        found = []
        for log in raw:
            contract = next(c for c in contracts if c.address == log["address"])
            entry = contract.get_event_by_topic("0x" + bytes(log["topics"][0]).hex())
            if entry.event_name in known:
                decoded = entry.process_log(log)
                found.append(
                    Event(
                        EventKind(entry.event_name),
                        int(log["blockNumber"]),
                        "0x" + bytes(log["transactionHash"]).hex(),
                        dict(decoded["args"]),
                    )
                )
        return found
