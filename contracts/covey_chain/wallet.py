"""Transactions of one key: each states an intent, is checked against the chain first, and is sent at most once."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_utils.address import to_checksum_address
from web3.exceptions import TransactionNotFound

from covey_chain import rpc
from covey_chain.client import Chain
from covey_chain.errors import ChainError, InsufficientFunds, NonceTaken, TransactionLost
from covey_chain.rpc import ask
from covey_chain.signing import private_key
from covey_chain.types import Receipt, Role, RoundResult, TaskStatus

_POLL_SECONDS = 0.2
_BUMP_AFTER_SECONDS = 30.0
_GIVE_UP_SECONDS = 600.0
_MAX_NONCE_RETRIES = 5

Done = Callable[[], Awaitable[bool]]


@dataclass(frozen=True)
class _Sent:
    nonce: int
    hashes: tuple[str, ...]


class Journal:
    """Transactions on their way, by intent; in a file when given a path, so that a restart finds them again."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        stored = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self._sent = {intent: _Sent(entry["nonce"], tuple(entry["hashes"])) for intent, entry in stored.items()}

    def get(self, intent: str) -> _Sent | None:
        """What has been sent for `intent` and is not known to be mined."""
        return self._sent.get(intent)

    def put(self, intent: str, sent: _Sent | None) -> None:
        """Remember, or with None forget, what was sent; on disk before this returns."""
        if sent is None:
            self._sent.pop(intent, None)
        else:
            self._sent[intent] = sent
        if self._path is not None:
            with tempfile.NamedTemporaryFile("w", dir=self._path.parent, delete=False) as file:
                json.dump({key: asdict(entry) for key, entry in self._sent.items()}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(self._path)


class Wallet:
    """An account that writes to the contracts.

    Args:
        chain: the contracts.
        key: 0x-hex private key.
        confirmations: blocks after which a transaction counts; its own block is the first.
        journal: where transactions on their way are remembered.

    Raises:
        BadWalletKey: `key` is not a private key.
    """

    def __init__(self, chain: Chain, key: str, confirmations: int = 1, journal: Journal | None = None) -> None:
        self._account = Account.from_key(private_key(key))
        self.chain = chain
        self._confirmations = confirmations
        self._journal = journal or Journal()
        self._lock = asyncio.Lock()

    @property
    def address(self) -> str:
        """Checksum address of the key."""
        return str(self._account.address)

    # --- intents -------------------------------------------------------------------------------------------------

    async def create_consortium(
        self, name: str, token: str, min_stake: int, admission: int = 0, unbonding_seconds: int = 604_800
    ) -> Receipt:
        """Make a consortium; nothing happens if it exists."""

        async def done() -> bool:
            return await self.chain.consortium(name) is not None

        function = self.chain.registry_contract.functions.createConsortium(
            name, token, min_stake, admission, unbonding_seconds
        )
        return await self._intend(f"consortium:{name}", function, done)

    async def join(
        self,
        consortium: bytes,
        roles: Role,
        tls_key_hash: bytes,
        endpoint: str,
        metadata_hash: bytes,
        certificate: bytes,
    ) -> Receipt:
        """Become a member, or bring the member's entry up to date."""
        known = await self.chain.member(consortium, self.address)
        arguments = (consortium, int(roles), tls_key_hash, endpoint, metadata_hash, certificate)

        async def done() -> bool:
            member = await self.chain.member(consortium, self.address)
            return member is not None and (
                (member.roles, member.tls_key_hash, member.endpoint, member.metadata_hash, member.certificate)
                == (roles, tls_key_hash, endpoint, metadata_hash, certificate)
            )

        functions = self.chain.registry_contract.functions
        function = (functions.join if known is None else functions.update)(*arguments)
        return await self._intend(f"join:{consortium.hex()}:{tls_key_hash.hex()}:{endpoint}", function, done)

    async def stake_up_to(self, consortium: bytes, token: str, target: int) -> Receipt:
        """Raise the stake to `target` base units; nothing happens if it is there."""
        member = await self.chain.member(consortium, self.address)
        missing = target - (member.stake if member else 0)
        if missing <= 0:
            return Receipt(None, await self.chain.block_number(), 0)
        await self._allow(token, self.chain.registry_contract.address, missing, "stake")

        async def done() -> bool:
            now = await self.chain.member(consortium, self.address)
            return now is not None and now.stake >= target

        function = self.chain.registry_contract.functions.stake(consortium, missing)
        return await self._intend(f"stake:{consortium.hex()}:{target}", function, done)

    async def unstake(self, consortium: bytes, amount: int) -> Receipt:
        """Begin to take out stake (every call takes out `amount` again)."""
        return await self.send(self.chain.registry_contract.functions.unstake(consortium, amount))

    async def publish(
        self,
        *,
        consortium: bytes,
        spec: bytes,
        spec_hash: bytes,
        token: str,
        bounty: int,
        min_members: int,
        max_members: int,
        rounds: int,
        accept_by: int,
        deadline: int,
        salt: bytes,
    ) -> tuple[bytes, Receipt]:
        """Publish a task with its bounty; the same salt never publishes twice. Returns the task id and the receipt."""
        task_id = await self.chain.task_id_of(self.address, salt)

        async def done() -> bool:
            return await self.chain.task(task_id) is not None

        if await done():
            return task_id, Receipt(None, await self.chain.block_number(), 0)
        if bounty:
            await self._allow(token, self.chain.market_contract.address, bounty, "bounty")
        terms = (
            consortium, spec_hash, to_checksum_address(token), bounty, min_members, max_members, rounds, accept_by,
            deadline, salt,
        )  # fmt: skip
        function = self.chain.market_contract.functions.publish(terms, spec)
        return task_id, await self._intend(f"publish:{task_id.hex()}", function, done)

    async def accept(self, task_id: bytes, roles: Role, session_key: str, endpoint: str) -> Receipt:
        """Take part in a task, or bring session key and end point of the participation up to date."""
        functions = self.chain.market_contract.functions
        session = to_checksum_address(session_key)

        async def state() -> tuple[int, str, int, str]:
            found: tuple[int, str, int, str] = await self.chain.call(functions.participantOf(task_id, self.address))
            return found

        async def done() -> bool:
            now = await state()
            return now[0] != 0 and (now[1], now[3]) == (session, endpoint)

        if (await state())[0] == 0:
            function = functions.accept(task_id, int(roles), session, endpoint)
        else:
            function = functions.setSession(task_id, session, endpoint)
        return await self._intend(f"accept:{task_id.hex()}:{session}:{endpoint}", function, done)

    async def withdraw_acceptance(self, task_id: bytes) -> Receipt:
        """Step back from a task that has not started."""
        functions = self.chain.market_contract.functions

        async def done() -> bool:
            return bool((await self.chain.call(functions.participantOf(task_id, self.address)))[0] == 0)

        return await self._intend(f"withdraw:{task_id.hex()}", functions.withdrawAcceptance(task_id), done)

    async def start(self, task_id: bytes) -> Receipt:
        """Start a task that has its members."""
        return await self._intend(
            f"start:{task_id.hex()}",
            self.chain.market_contract.functions.start(task_id),
            self._status_is(task_id, TaskStatus.STARTED, TaskStatus.FINISHED),
        )

    async def cancel(self, task_id: bytes) -> Receipt:
        """Take back an open task with its whole bounty."""
        return await self._intend(
            f"cancel:{task_id.hex()}",
            self.chain.market_contract.functions.cancel(task_id),
            self._status_is(task_id, TaskStatus.CANCELLED),
        )

    async def expire(self, task_id: bytes) -> Receipt:
        """End a task whose deadline has passed."""
        return await self._intend(
            f"expire:{task_id.hex()}",
            self.chain.market_contract.functions.expire(task_id),
            self._status_is(task_id, TaskStatus.CANCELLED, TaskStatus.FINISHED),
        )

    async def post_result(self, result: RoundResult, signatures: Mapping[str, bytes]) -> Receipt:
        """Put a result on chain.

        Args:
            result: the round's result.
            signatures: signer address -> 65-byte signature; sorted here.
        """

        async def done() -> bool:
            return (await self.chain.settlement(result.task_id)).round >= result.round

        ordered = [signatures[signer] for signer in sorted(signatures, key=str.lower)]
        values = (
            result.task_id, result.round, result.model_digest, result.updates_root, result.scores_root,
            result.reward_root, result.total_reward, result.accepted, result.last,
        )  # fmt: skip
        function = self.chain.settlement_contract.functions.postResult(values, ordered)
        return await self._intend(f"result:{result.task_id.hex()}:{result.round}", function, done)

    async def claim(self, task_id: bytes, member: str, cumulative: int, proof: Sequence[bytes]) -> Receipt:
        """Have a member's reward paid to the member."""

        async def done() -> bool:
            return await self.chain.claimed(task_id, member) >= cumulative

        function = self.chain.settlement_contract.functions.claim(
            task_id, to_checksum_address(member), cumulative, list(proof)
        )
        return await self._intend(f"claim:{task_id.hex()}:{member}:{cumulative}", function, done)

    async def fund(self, address: str, at_least_wei: int) -> Receipt:
        """Bring the native coin of `address` up to `at_least_wei`."""
        target = to_checksum_address(address)
        missing = at_least_wei - await self.chain.native_balance(target)
        if missing <= 0:
            return Receipt(None, await self.chain.block_number(), 0)

        async def done() -> bool:
            return await self.chain.native_balance(target) >= at_least_wei

        return await self._intend(
            f"fund:{target}:{at_least_wei}", {"to": target, "value": missing, "gas": 21_000}, done
        )

    async def send(self, function: Any) -> Receipt:
        """Send a call without an intent: it happens every time (deployment, minting)."""
        return await self._submit(None, function)

    # --- machinery -----------------------------------------------------------------------------------------------

    def _status_is(self, task_id: bytes, *wanted: TaskStatus) -> Done:
        async def done() -> bool:
            status = await self.chain.call(self.chain.market_contract.functions.statusOf(task_id))
            return TaskStatus(status) in wanted

        return done

    async def _allow(self, token: str, spender: str, amount: int, purpose: str) -> None:
        balance = await self.chain.token_balance(token, self.address)
        if balance < amount:
            decimals = await self.chain.token_decimals(token)
            symbol = await self.chain.token_symbol(token)
            raise InsufficientFunds(
                purpose, self.address, f"{amount / 10**decimals:g} {symbol}", f"{balance / 10**decimals:g} {symbol}"
            )
        functions = self.chain.token(token).functions

        async def done() -> bool:
            return int(await self.chain.call(functions.allowance(self.address, spender))) >= amount

        await self._intend(f"allow:{token}:{spender}:{amount}", functions.approve(spender, amount), done)

    async def _intend(self, intent: str, function: Any, done: Done) -> Receipt:
        async with self._lock:
            if await done():
                self._journal.put(intent, None)
                return Receipt(None, await self.chain.block_number(), 0)
            for attempt in range(_MAX_NONCE_RETRIES):
                try:
                    return await self._submit(intent, function)
                except NonceTaken:
                    # Another process with the same key was faster; perhaps it did what we wanted.
                    self._journal.put(intent, None)
                    if await done():
                        return Receipt(None, await self.chain.block_number(), 0)
                    await asyncio.sleep(_POLL_SECONDS * 2**attempt)
            raise NonceTaken(f"{self.address} is used by somebody else all the time")

    async def _submit(self, intent: str | None, function: Any) -> Receipt:
        name = function.fn_name if hasattr(function, "fn_name") else "transfer"
        sent = self._journal.get(intent) if intent else None
        if sent is None:
            url, eth = self.chain.url, self.chain.web3.eth
            count = eth.get_transaction_count(self._account.address, "pending")
            nonce = await ask(url, "eth_getTransactionCount", count)
            transaction = await self._build(name, function, nonce)
            sent = await self._broadcast(intent, transaction, _Sent(nonce, ()))
        else:
            transaction = None
        return await self._await_receipt(name, intent, function, transaction, sent)

    async def _build(self, name: str, function: Any, nonce: int) -> dict[str, Any]:
        url, eth = self.chain.url, self.chain.web3.eth
        tip = await ask(url, "eth_maxPriorityFeePerGas", eth.max_priority_fee)
        head = await ask(url, "eth_getBlockByNumber", eth.get_block("latest"))
        fee = 2 * int(head.get("baseFeePerGas", 0)) + int(tip)
        common = {
            "from": self.address, "nonce": nonce, "chainId": self.chain.chain_id,
            "maxFeePerGas": fee, "maxPriorityFeePerGas": int(tip),
        }  # fmt: skip
        if isinstance(function, dict):
            built: dict[str, Any] = {**common, **function}
        else:
            gas = await ask(url, name, function.estimate_gas({"from": self.address}))
            built = dict(await ask(url, name, function.build_transaction({**common, "gas": gas + gas // 5})))
        cost = built["gas"] * fee + int(built.get("value", 0))
        balance = await self.chain.native_balance(self.address)
        if balance < cost:
            raise InsufficientFunds("gas", self.address, f"{cost / 1e18:g} native coin", f"{balance / 1e18:g}")
        return built

    async def _broadcast(self, intent: str | None, transaction: dict[str, Any], sent: _Sent) -> _Sent:
        signed = self._account.sign_transaction({k: v for k, v in transaction.items() if k != "from"})
        sent = _Sent(sent.nonce, (*sent.hashes, "0x" + bytes(signed.hash).hex()))
        if intent is not None:
            # First remembered, then sent: after a crash in between, the hash is not found and the intent starts anew.
            self._journal.put(intent, sent)
        await ask(
            self.chain.url, "eth_sendRawTransaction", self.chain.web3.eth.send_raw_transaction(signed.raw_transaction)
        )
        return sent

    async def _await_receipt(
        self, name: str, intent: str | None, function: Any, transaction: dict[str, Any] | None, sent: _Sent
    ) -> Receipt:
        loop = asyncio.get_running_loop()
        began = bumped = loop.time()
        while True:
            receipt = await self._receipt(sent)
            if receipt is not None:
                if receipt["status"] != 1:
                    self._journal_forget(intent)
                    raise rpc.revert(name, None, "reverted after it was sent; somebody else was faster")
                height = await self.chain.block_number()
                if height - receipt["blockNumber"] + 1 >= self._confirmations:
                    self._journal_forget(intent)
                    hash_ = "0x" + bytes(receipt["transactionHash"]).hex()
                    return Receipt(hash_, int(receipt["blockNumber"]), int(receipt["gasUsed"]))
            elif transaction is None and not await self._known(sent):
                # Remembered from before a restart, and the node has never heard of it.
                self._journal_forget(intent)
                return await self._submit(intent, function)
            elif transaction is not None and loop.time() - bumped > _BUMP_AFTER_SECONDS:
                # EIP-1559 nodes want at least 10 % more on both fees for a replacement.
                for field in ("maxFeePerGas", "maxPriorityFeePerGas"):
                    transaction[field] = transaction[field] * 9 // 8 + 1
                sent, bumped = await self._broadcast(intent, transaction, sent), loop.time()
            if loop.time() - began > _GIVE_UP_SECONDS:
                raise TransactionLost(f"{name} was not mined within {_GIVE_UP_SECONDS:.0f} s: {sent.hashes[-1]}")
            await asyncio.sleep(_POLL_SECONDS if receipt is None else 2 * _POLL_SECONDS)

    def _journal_forget(self, intent: str | None) -> None:
        if intent is not None:
            self._journal.put(intent, None)

    async def _receipt(self, sent: _Sent) -> Any:
        for hash_ in sent.hashes:
            try:
                return await ask_or_none(self.chain, hash_)
            except TransactionNotFound:
                continue
        return None

    async def _known(self, sent: _Sent) -> bool:
        for hash_ in sent.hashes:
            try:
                await self.chain.web3.eth.get_transaction(hash_)  # type: ignore[arg-type]
            except TransactionNotFound:
                continue
            return True
        return False


async def ask_or_none(chain: Chain, hash_: str) -> Any:
    """A receipt; TransactionNotFound passes, everything else is typed."""
    try:
        return await chain.web3.eth.get_transaction_receipt(hash_)  # type: ignore[arg-type]
    except TransactionNotFound:
        raise
    except Exception as error:
        if isinstance(error, ChainError):
            raise
        raise rpc.translate(chain.url, "eth_getTransactionReceipt", error) from error
