"""An account that writes to the contracts: its key, its queue of transactions, and what it allows others to take."""

from __future__ import annotations

import asyncio
from typing import Any

from covey_chain.client import Chain
from covey_chain.errors import InsufficientFunds
from covey_chain.journal import Journal
from covey_chain.queue import PATIENT, Call, Done, Pace, TransactionQueue
from covey_chain.signers import KeySigner, Signer
from covey_chain.types import Receipt, TaskStatus


class Writer:
    """An account that writes to the contracts.

    Args:
        chain: the contracts.
        signer: signs for the account; a 0x-hex private key is one, too.
        confirmations: blocks after which a transaction counts; its own block is the first.
        journal: where transactions on their way are remembered; one of its own in memory if None.
        pace: how long to wait for what.

    Raises:
        BadWalletKey: the signer is a text that is not a private key.

    All methods that send raise what `TransactionQueue.submit` raises, and return its receipt.
    """

    def __init__(
        self,
        chain: Chain,
        signer: Signer | str,
        confirmations: int = 1,
        journal: Journal | None = None,
        pace: Pace = PATIENT,
    ) -> None:
        self._signer = KeySigner(signer) if isinstance(signer, str) else signer
        self.chain = chain
        self._spending = asyncio.Lock()  # an allowance replaces the one before: it is used before the next is given
        self._queue = TransactionQueue(chain, self._signer, confirmations, journal or Journal(), pace)

    @property
    def address(self) -> str:
        """Checksum address of the account."""
        return self._signer.address

    async def _task(self, verb: str, task_id: bytes, done: Done) -> Receipt:
        return await self._queue.submit(
            f"{verb}:0x{task_id.hex()}", call_of(self.chain.market_contract, verb, task_id), done
        )

    def _status_is(self, task_id: bytes, *wanted: TaskStatus) -> Done:
        async def done() -> bool:
            return await self.chain.task_status(task_id) in wanted

        return done

    async def _staked(self, consortium: bytes) -> int:
        return int(await self.chain.call(self.chain.registry_contract.functions.stakeOf(consortium, self.address)))

    async def _allow(self, token: str, spender: str, amount: int, purpose: str) -> None:
        balance = await self.chain.token_balance(token, self.address)
        if balance < amount:
            decimals, symbol = await self.chain.token_decimals(token), await self.chain.token_symbol(token)
            raise InsufficientFunds(
                purpose, self.address, _tokens(amount, decimals, symbol), _tokens(balance, decimals, symbol)
            )
        contract = self.chain.token(token)
        allowance = contract.functions.allowance(self.address, spender)

        async def done() -> bool:
            return int(await self.chain.call(allowance)) >= amount

        call = call_of(contract, "approve", spender, amount)
        await self._queue.submit(f"approve:{contract.address}:{spender}:{amount}", call, done)


def call_of(contract: Any, name: str, *arguments: Any) -> Call:
    """A call of a contract's function, ABI-encoded."""
    return Call(name, contract.address, contract.encode_abi(name, args=list(arguments)))


def _tokens(amount: int, decimals: int, symbol: str) -> str:
    """An exact amount for people: no exponent, no rounding, no trailing zeros."""
    whole, part = divmod(amount, 10**decimals)
    digits = f"{part:0{decimals}d}".rstrip("0") if part else ""
    return f"{whole}{'.' + digits if digits else ''} {symbol}"
