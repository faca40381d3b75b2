"""The way to the contracts: calls of their views, and their logs as events, with typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Self, TypeVar

from eth_utils.address import to_checksum_address
from web3.exceptions import TransactionIndexingInProgress, TransactionNotFound
from web3.types import FilterParams

from covey_chain import abi, rpc
from covey_chain.errors import NoContract, Reverted, WrongChain
from covey_chain.events import Event, EventKind
from covey_chain.signing import Domain
from covey_chain.types import Block

T = TypeVar("T")

# Providers refuse wider log queries; 10 000 blocks is what the strictest of the common ones answers.
LOG_BLOCKS = 10_000
_AT_ONCE = 8
_EVENTS_AT_ONCE = 32


class Connection:
    """A set of contracts on one chain, found from its Settlement address. Build it with `connect`."""

    def __init__(
        self, url: str, chain_id: int, settlement: str, timeout_seconds: float, fallbacks: Sequence[str] = ()
    ) -> None:
        self.web3 = rpc.connect(url, timeout_seconds, fallbacks, chain_id)
        self.url, self.chain_id = url, chain_id
        self.settlement_contract = self._contract("Settlement", settlement)
        self.registry_contract: Any = None
        self.market_contract: Any = None
        self.fallback_contract: Any = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._tokens: dict[str, Any] = {}

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
                fallback = await chain.call(functions.quorumFallback())
            except (NoContract, Reverted) as error:
                raise NoContract(contract, chain_id) from error
        except BaseException:
            await chain.close()
            raise
        chain.registry_contract = chain._contract("MemberRegistry", registry)
        chain.market_contract = chain._contract("TaskMarket", market)
        chain.fallback_contract = chain._contract("Fallback", fallback)
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
        """An ERC-20 contract at `address`; web3 makes a class for each, which is kept."""
        if address not in self._tokens:
            self._tokens[address] = self._contract("DevToken", address)
        return self._tokens[address]

    async def block_number(self) -> int:
        """Height of the newest block."""
        return int(await self.ask("eth_blockNumber", self.web3.eth.block_number))

    async def block(self, number: int | None = None) -> Block:
        """The block of that height, or the newest one."""
        wanted: Any = "latest" if number is None else number
        found = await self.ask("eth_getBlockByNumber", self.web3.eth.get_block(wanted))
        return Block(int(found["number"]), bytes(found["hash"]), bytes(found["parentHash"]))

    async def timestamp(self) -> int:
        """Seconds since 1970 of the newest block: the contracts' clock."""
        return int((await self.ask("eth_getBlockByNumber", self.web3.eth.get_block("latest")))["timestamp"])

    async def receipt(self, tx_hash: str) -> Any:
        """The receipt of a mined transaction, None while it is not mined, or the node cannot say whether it is."""
        try:
            return await self.ask("eth_getTransactionReceipt", self._receipt(tx_hash))
        except (TransactionNotFound, TransactionIndexingInProgress):  # the latter: geth, just after a start
            return None

    async def _receipt(self, tx_hash: str) -> Any:
        return await self.web3.eth.get_transaction_receipt(bytes.fromhex(tx_hash[2:]))  # type: ignore[arg-type]

    async def events(self, from_block: int, to_block: int, task_id: bytes | None = None) -> list[Event]:
        """Events of all contracts in the blocks from_block … to_block, in the order of the chain.

        With `task_id` only those that speak of the task.

        Who follows the chain reads again from some blocks before the last one that it has seen, and tells histories
        apart by `block_hash`: the newest blocks may be replaced.
        """
        found: list[Event] = []
        for first in range(from_block, to_block + 1, LOG_BLOCKS):
            found += await self._events(first, min(to_block, first + LOG_BLOCKS - 1), task_id)
        return found

    async def _events(self, from_block: int, to_block: int, task_id: bytes | None) -> list[Event]:
        own = (self.registry_contract, self.market_contract, self.settlement_contract, self.fallback_contract)
        contracts = {contract.address: contract for contract in own}
        wanted: FilterParams = {"fromBlock": from_block, "toBlock": to_block, "address": list(contracts)}
        if task_id is not None:
            wanted["topics"] = [None, "0x" + task_id.hex()]
        logs = await self.ask("eth_getLogs", self.web3.eth.get_logs(wanted))
        found: list[Event] = []
        for log in logs:
            if len(found) % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)  # decoding takes a millisecond each, and a Lease may have to be renewed
            found.append(self._event(contracts[log["address"]], log))
        return found

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
