"""A chain in memory and in its own time, for schedules that no real node could be made to follow.

It has what the queue asks of a chain: blocks, a pool, receipts. Transactions are real ones, signed and decoded. The
queue's tests on real nodes are in tests/contract.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from covey_chain.errors import RpcUnavailable
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.crypto import keccak
from hexbytes import HexBytes

T = TypeVar("T")
BLOCK_SECONDS = 5.0
BASE_FEE, TIP = 10, 1
_REAL_SLEEP = asyncio.sleep


class RestartError(BaseException):
    """The process ends here."""


@dataclass(frozen=True)
class Transaction:
    hash: str
    nonce: int
    mark: str
    fee: int


@dataclass
class SimulatedChain:
    """`plan` maps times (seconds) to what happens then; each thing happens once."""

    plan: list[tuple[float, Callable[[SimulatedChain], None]]]
    now: float = 0.0
    blocks: list[list[Transaction]] = field(default_factory=lambda: [[]])
    pool: dict[int, Transaction] = field(default_factory=dict)
    down_until: float = 0.0
    stalled_until: float = 0.0
    restart: bool = False
    chain_id: int = 7
    final: int = 3
    _tallest: int = 1
    _next_block: float = BLOCK_SECONDS

    # --- time ----------------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Takes the place of `asyncio.sleep`."""
        self.advance(self.now + seconds)
        if self.restart:
            self.restart = False
            raise RestartError
        await _REAL_SLEEP(0)

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def advance(self, until: float) -> None:
        while min(self._next_block, self.plan[0][0] if self.plan else math.inf) <= until:
            if self.plan and self.plan[0][0] <= self._next_block:
                self.now, happens = self.plan.pop(0)
                happens(self)
            else:
                self.now, self._next_block = self._next_block, self._next_block + BLOCK_SECONDS
                if self.now >= self.stalled_until:
                    self._mine()
        self.now = max(self.now, until)

    def _mine(self) -> None:
        block, count = [], self.count()
        while count in self.pool:
            block.append(self.pool.pop(count))
            count += 1
        self.blocks.append(block)
        self._tallest = max(self._tallest, len(self.blocks))

    # --- what happens --------------------------------------------------------------------------------------------

    def go_back(self, depth: int, to_pool: bool) -> None:
        """A new history without the last blocks; what was in them goes back to the pool, or is lost.

        Blocks that `final` others have ever followed stay, however many histories come one after the other.
        """
        for _ in range(min(depth, len(self.blocks) - max(1, self._tallest - self.final))):
            for transaction in self.blocks.pop():
                if to_pool:
                    self.pool.setdefault(transaction.nonce, transaction)

    # --- what the queue asks -------------------------------------------------------------------------------------

    @property
    def web3(self) -> Any:
        return self

    @property
    def eth(self) -> Any:
        return self

    @property
    def max_priority_fee(self) -> Awaitable[int]:
        return self._answer(lambda: TIP)

    def mined(self) -> list[Transaction]:
        return [transaction for block in self.blocks for transaction in block]

    def count(self) -> int:
        return sum(map(len, self.blocks))

    async def ask(self, _call: str, request: Awaitable[T]) -> T:
        return await request

    async def native_balance(self, _address: str) -> int:
        return await self._answer(lambda: 10**20)

    async def block_number(self) -> int:
        return await self._answer(lambda: len(self.blocks) - 1)

    async def receipt(self, hash_: str) -> Any:
        def find() -> Any:
            for height, block in enumerate(self.blocks):
                for transaction in block:
                    if transaction.hash == hash_:
                        return {"status": 1, "blockNumber": height, "gasUsed": 1, "transactionHash": HexBytes(hash_)}
            return None

        return await self._answer(find)

    async def get_block(self, _which: str) -> Any:
        return await self._answer(lambda: {"baseFeePerGas": BASE_FEE})

    async def estimate_gas(self, _call: Any) -> int:
        return await self._answer(lambda: 21_000)

    async def get_transaction_count(self, _address: str, block: str) -> int:
        def find() -> int:
            count = self.count()
            while block == "pending" and count in self.pool:
                count += 1
            return count

        return await self._answer(find)

    async def send_raw_transaction(self, raw: str) -> Any:
        return await self._answer(lambda: self._take(bytes(HexBytes(raw))))

    def _take(self, raw: bytes) -> None:
        fields = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        mark = "0x" + bytes(fields["data"]).hex()
        sent = Transaction("0x" + keccak(raw).hex(), fields["nonce"], mark, fields["maxFeePerGas"])
        there = self.pool.get(sent.nonce)
        if sent.nonce < self.count():
            raise RpcUnavailable("sim", "nonce too low", refused=True)
        if there is not None and there.hash == sent.hash:
            raise RpcUnavailable("sim", "already known", refused=True)
        if there is not None and sent.fee * 10 < there.fee * 11:
            raise RpcUnavailable("sim", "replacement transaction underpriced", refused=True)
        self.pool[sent.nonce] = sent

    async def _answer(self, find: Callable[[], T]) -> T:
        if self.now < self.down_until:
            raise RpcUnavailable("sim", "connection refused")
        return find()
