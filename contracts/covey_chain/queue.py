"""The transaction queue of one key: every intent is sent until it is mined, and mined at most once.

An intent is a name for what is wanted ("publish:0x…") together with a look at the chain that tells whether it has
been reached. A signed transaction is remembered before it is sent; after a restart it is looked for, sent again, or
given up when its nonce has gone to another one, never signed under a second nonce while the first can still be mined.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from eth_utils.crypto import keccak

from covey_chain.client import Chain
from covey_chain.errors import (
    InsufficientFunds,
    NonceTaken,
    Reverted,
    RpcUnavailable,
    SignerRefused,
    SignerUnavailable,
    TransactionLost,
)
from covey_chain.journal import Journal, Sent
from covey_chain.signers import Signer
from covey_chain.types import Receipt

log = logging.getLogger(__name__)

Done = Callable[[], Awaitable[bool]]

_NONCE_ATTEMPTS = 5
# A load balancer may answer from a node that lags: a nonce is given up only when that is seen this many times.
_NONCE_SIGHTINGS = 5
# What offers this many times the fee that the chain asks waits for something else than money, for example for blocks.
_DEAREST = 10


@dataclass(frozen=True)
class Pace:
    """How patient the queue is, in seconds.

    `first_poll` doubles up to `last_poll` while a transaction is awaited; an unmined one is replaced with higher fees
    every `bump`; after `give_up` the caller is told, and may come again.
    """

    first_poll: float = 0.02
    last_poll: float = 2.0
    bump: float = 45.0
    give_up: float = 600.0


@dataclass(frozen=True)
class Call:
    """A call to be sent: `name` for people, `data` the ABI-encoded call, `value` in wei."""

    name: str
    to: str
    data: str = "0x"
    value: int = 0


PATIENT = Pace()


async def fees(eth: Any, ask: Callable[[str, Awaitable[Any]], Awaitable[Any]]) -> dict[str, int]:
    """Fees that outlast six full blocks (EIP-1559: the base fee rises by at most 1/8 a block), in wei."""
    tip = int(await ask("eth_maxPriorityFeePerGas", eth.max_priority_fee))
    base = int((await ask("eth_getBlockByNumber", eth.get_block("latest"))).get("baseFeePerGas", 0))
    if base == 0:
        # On chains without fees nodes may propose a tip all the same; the price of gas tells.
        tip = min(tip, int(await ask("eth_gasPrice", eth.gas_price)))
    return {"maxFeePerGas": 2 * base + tip, "maxPriorityFeePerGas": tip}


class NonceGoneError(Exception):
    """Another transaction has the nonce; the intent needs a new one."""


class TransactionQueue:
    """Sends what one account wants, each intent once.

    Args:
        chain: the contracts.
        signer: signs for the account.
        confirmations: blocks after which a transaction counts; its own block is the first (0 and 1 are the same).
        journal: where transactions on their way are remembered.
        pace: patience.
    """

    def __init__(
        self, chain: Chain, signer: Signer, confirmations: int, journal: Journal, pace: Pace = PATIENT
    ) -> None:
        self._chain, self._signer, self._journal, self._pace = chain, signer, journal, pace
        self._depth = max(1, confirmations)
        self._nonce_lock = asyncio.Lock()
        self._intent_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def submit(self, intent: str, call: Call, done: Done) -> Receipt:
        """Send `call` unless `done` says that the chain is there already; await its confirmations.

        Returns:
            The receipt; without a hash if nothing had to be sent.

        Raises:
            Reverted: the contract refuses, and `done` is still false.
            InsufficientFunds: the account cannot pay gas and value.
            NonceTaken: something else uses the account all the time.
            TransactionLost: not mined in time.
            SignerUnavailable, SignerRefused: there is no signature; nothing was sent.
            ChainError: the node cannot be asked.
        """
        lock = self._intent_locks.setdefault(intent, asyncio.Lock())
        async with lock:
            sent = self._journal.get(intent)
            if sent is not None:
                receipt = await self._resume(intent, call, sent)
                if receipt is not None and await done():
                    return receipt
            for _ in range(_NONCE_ATTEMPTS):
                if await done():
                    return await self._nothing_to_do()
                try:
                    transaction = await self._prepare(call)
                    return await self._follow(intent, call, await self._send(intent, transaction))
                except NonceGoneError:
                    continue
                except Reverted:
                    # Often somebody else was faster, with the same end in mind.
                    if await done():
                        return await self._nothing_to_do()
                    raise
        raise NonceTaken(self._signer.address, await self._count("latest"))

    async def _resume(self, intent: str, call: Call, sent: Sent) -> Receipt | None:
        log.info("looking for %s, sent before as %s", intent, sent.hashes[-1])
        try:
            return await self._follow(intent, call, sent)
        except (NonceGoneError, Reverted) as error:
            log.info("%s starts anew: %s", intent, error)
            return None

    async def _nothing_to_do(self) -> Receipt:
        return Receipt(None, await self._chain.block_number(), 0)

    # --- sending -------------------------------------------------------------------------------------------------

    async def _prepare(self, call: Call) -> dict[str, Any]:
        """Everything but the nonce. A call that would revert ends here, before anything is signed."""
        sender, balance = self._signer.address, await self._chain.native_balance(self._signer.address)
        if balance < call.value:
            raise InsufficientFunds(call.name, sender, _coins(call.value), _coins(balance))
        bare: Any = {"from": sender, "to": call.to, "data": call.data, "value": call.value}
        gas = int(await self._chain.ask(call.name, self._chain.web3.eth.estimate_gas(bare))) * 5 // 4
        fees = await self._fees()
        cost = gas * fees["maxFeePerGas"] + call.value
        if balance < cost:
            raise InsufficientFunds(f"gas of {call.name}", sender, _coins(cost), _coins(balance))
        return {
            "type": 2, "chainId": self._chain.chain_id, "to": call.to, "data": call.data, "value": call.value,
            "gas": gas, **fees,
        }  # fmt: skip

    async def _fees(self) -> dict[str, int]:
        return await fees(self._chain.web3.eth, self._chain.ask)

    async def _send(self, intent: str, transaction: dict[str, Any]) -> Sent:
        async with self._nonce_lock:
            nonce = await self._next_nonce()
            sent = await self._signed({**transaction, "nonce": nonce})
            self._journal.put(intent, sent)
            try:
                await self._broadcast(sent)
            except NonceGoneError:
                self._journal.forget(intent)
                raise
            except RpcUnavailable as error:
                if error.refused:
                    # Not taken into the pool, and for a reason that will not pass: nothing is on its way.
                    self._journal.forget(intent)
                    raise
                log.warning("%s may or may not have been sent: %s", intent, error)
        return sent

    async def _next_nonce(self) -> int:
        """The first nonce after everything that is on its way; what the node has lost of it is sent again."""
        remembered = self._journal.all().values()  # before asking, as what is mined meanwhile is forgotten meanwhile
        latest = await self._count("latest")
        ours = {sent.nonce: sent for sent in remembered if sent.nonce >= latest}
        pending = await self._count("pending")
        if any(nonce not in ours for nonce in range(latest, pending)):
            # Sent before a restart that forgot it, or by another process: it may be this very intent.
            await self._until_mined(pending)
            raise NonceGoneError(f"waited for {pending - latest} transactions that the queue does not know")
        for nonce in sorted(n for n in ours if n >= pending):
            await self._rebroadcast(ours[nonce])
        return max([pending - 1, *ours]) + 1

    async def _until_mined(self, count: int) -> None:
        began = time.monotonic()
        delay = self._pace.first_poll
        while await self._count("latest") < count:
            if time.monotonic() - began > self._pace.give_up:
                raise NonceTaken(self._signer.address, await self._count("latest"))
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._pace.last_poll)

    async def _signed(self, transaction: dict[str, Any], earlier: tuple[str, ...] = ()) -> Sent:
        """A form of a transaction, signed once and kept, with its hash after those of earlier forms."""
        raw = await self._signer.sign_transaction(transaction)
        return Sent(transaction, (*earlier, "0x" + keccak(raw).hex()), time.time(), "0x" + raw.hex())

    async def _broadcast(self, sent: Sent) -> None:
        request = self._chain.web3.eth.send_raw_transaction(sent.raw)  # type: ignore[arg-type]
        try:
            await self._chain.ask("eth_sendRawTransaction", request)
        except RpcUnavailable as error:
            text = str(error).lower()
            if "already known" in text or "already imported" in text or "known transaction" in text:
                return
            if "nonce too low" in text and await self._mined(sent) is not None:
                return  # it had been taken, and its answer was lost on the way
            if "nonce too low" in text or "replacement transaction underpriced" in text:
                raise NonceGoneError(str(error)) from error
            raise

    async def _rebroadcast(self, sent: Sent) -> None:
        try:
            await self._broadcast(sent)
        except (NonceGoneError, RpcUnavailable) as error:
            # Mined meanwhile, replaced, no longer payable, or no node there: whoever follows it finds out which.
            log.info("%s was not taken again: %s", sent.hashes[-1], error)

    # --- awaiting ------------------------------------------------------------------------------------------------

    async def _follow(self, intent: str, call: Call, sent: Sent) -> Receipt:
        began = time.monotonic()
        delay, gone = self._pace.first_poll, 0
        while time.monotonic() - began < self._pace.give_up:
            receipt = await self._mined(sent)
            if receipt is not None:
                if await self._chain.block_number() - int(receipt["blockNumber"]) + 1 >= self._depth:
                    self._journal.forget(intent)
                    return await self._judged(call, sent, receipt)
            elif await self._count("latest") > sent.nonce:
                gone += 1
                if gone >= _NONCE_SIGHTINGS:
                    self._journal.forget(intent)
                    raise NonceGoneError(f"nonce {sent.nonce} of {intent} went to another transaction")
            elif time.time() - sent.sent_at > self._pace.bump:
                sent = await self._bump(intent, sent)
            elif await self._count("pending") <= sent.nonce:
                await self._rebroadcast(sent)
            await asyncio.sleep(delay)
            delay = min(2 * delay, self._pace.last_poll)
        raise TransactionLost(call.name, sent.hashes[-1], self._pace.give_up)

    async def _mined(self, sent: Sent) -> Any:
        for hash_ in reversed(sent.hashes):
            receipt = await self._chain.receipt(hash_)
            if receipt is not None:
                return receipt
        return None

    async def _bump(self, intent: str, sent: Sent) -> Sent:
        """The same transaction with higher fees; nodes want at least 10 % more on both (geth, `txpool.pricebump`)."""
        asked = await self._fees()
        if int(sent.transaction["maxFeePerGas"]) >= _DEAREST * asked["maxFeePerGas"]:
            await self._rebroadcast(sent)
            return replace(sent, sent_at=time.time())
        raised = {name: max(now, int(sent.transaction[name]) * 9 // 8 + 1) for name, now in asked.items()}
        try:
            dearer = await self._signed({**sent.transaction, **raised}, sent.hashes)
        except (SignerUnavailable, SignerRefused) as error:
            log.warning("%s is stuck and keeps its fees: %s", intent, error)
            return replace(sent, sent_at=time.time())
        log.info("%s is stuck; its fees go up to %d wei", intent, raised["maxFeePerGas"])
        self._journal.put(intent, dearer)
        await self._rebroadcast(dearer)
        return dearer

    async def _judged(self, call: Call, sent: Sent, receipt: Any) -> Receipt:
        if receipt["status"] == 1:
            tx_hash = "0x" + bytes(receipt["transactionHash"]).hex()
            return Receipt(tx_hash, int(receipt["blockNumber"]), int(receipt["gasUsed"]))
        # Estimated well and reverted in its block: asking again on the state of that block tells why.
        again: Any = {"from": self._signer.address, "to": call.to, "data": sent.transaction["data"]}
        block = int(receipt["blockNumber"])
        await self._chain.ask(call.name, self._chain.web3.eth.call(again, block))
        raise Reverted(call.name, "in its block but not after it: out of gas, or overtaken by another transaction")

    async def _count(self, block: str) -> int:
        request = self._chain.web3.eth.get_transaction_count(self._signer.address, block)  # type: ignore[arg-type]
        return int(await self._chain.ask("eth_getTransactionCount", request))


def _coins(wei: int) -> str:
    return f"{wei / 10**18:.6g} native coin"
