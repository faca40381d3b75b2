"""Deployment of a set of contracts: once, however often it is begun.

An address is a function of sender and nonce. The plan, which is these two, is on disk before anything is sent;
whether a part of it is done is a look at the code at its address.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from web3.types import Nonce
from web3.utils.address import get_create_address

from covey_chain import abi, rpc
from covey_chain.errors import NoContract, Reverted, RpcUnavailable, TransactionLost, WrongChain
from covey_chain.queue import fees
from covey_chain.signers import KeySigner, Signer
from covey_chain.types import Deployment

_GIVE_UP_SECONDS = 600.0
_POLL_SECONDS = 0.05
# A node that has this very transaction, or its block, says one of these; the code at the address tells the rest.
_THERE_ALREADY = ("already known", "already imported", "known transaction", "nonce too low", "underpriced")


@dataclass(frozen=True)
class Plan:
    """What comes to be where.

    Attributes:
        chain_id: EIP-155 chain id.
        sender: checksum address of the account that deploys.
        nonce: of its first transaction.
        token: the stake token that is there already; None deploys a development token.
    """

    chain_id: int
    sender: str
    nonce: int
    token: str | None

    @classmethod
    def load(cls, path: Path) -> Plan | None:
        """What `save` wrote; None if there is no such file.

        Raises:
            OtherRecord: the file is something else.
        """
        if not path.exists():
            return None
        try:
            return cls(**json.loads(path.read_text()))
        except (ValueError, TypeError):
            raise OtherRecord(path, "unreadable content", "in it", "a plan") from None

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all."""
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(json.dumps(asdict(self), indent=1) + "\n")
        fresh.replace(path)

    def at(self, place: int) -> ChecksumAddress:
        """Address of the contract that the transaction with nonce + `place` makes."""
        return get_create_address(to_checksum_address(self.sender), Nonce(self.nonce + place))

    @property
    def market_place(self) -> int:
        """Place of TaskMarket; Settlement follows it, a development token stands before it."""
        return 1 if self.token is None else 0


class OtherRecord(ValueError):
    """A record is of another deployment."""

    def __init__(self, path: Path, what: str, found: object, wanted: object) -> None:
        super().__init__(f"{path} is of a deployment with {what} {found}, not {wanted}; name another file")


async def deploy_all(
    rpc_url: str,
    signer: Signer | str,
    token: str | None = None,
    record: Path | None = None,
    chain_id: int | None = None,
) -> Deployment:
    """Deploy a set of contracts, or what is missing of it.

    The market names the address at which Settlement comes to be, and Settlement takes no other market: nobody can come
    in between. If another transaction of the account takes a planned nonce, the plan starts anew after it.

    Args:
        rpc_url: JSON-RPC end point.
        signer: of an account with native coin, which nothing else should send from meanwhile; or its 0x-hex key.
        token: address of the ERC-20 stake token; None deploys a development token, which everybody can mint.
        record: file that keeps the plan; with it, a second call goes on, and when all is there only says so.
        chain_id: EIP-155 chain id that the node must have; None takes any.

    Raises:
        OtherRecord: the record is of another chain, account or token.
        ChainError: the node does not answer, refuses, or there is no such token.
    """
    async with _sender(rpc_url, signer) as sender:
        found = await sender.chain_id()
        if chain_id not in (None, found):
            raise WrongChain(rpc_url, chain_id or 0, found)
        if token is not None and not await sender.has_code(to_checksum_address(token)):
            raise NoContract(token, found, "token", "the token")
        plan = await _plan(sender, None if token is None else to_checksum_address(token), record)
        if record is not None:
            plan.save(record)
        if plan.token is None:
            await sender.create("DevToken", plan, 0)
        await sender.create("TaskMarket", plan, plan.market_place, plan.at(plan.market_place + 1))
        await sender.create("Settlement", plan, plan.market_place + 1, plan.at(plan.market_place))
        market, settlement = plan.at(plan.market_place), plan.at(plan.market_place + 1)
        functions = sender.contract("Settlement", settlement).functions
        registry = await rpc.ask(rpc_url, "registry", functions.registry().call())
        return Deployment(settlement, str(registry), market, plan.token or plan.at(0))


async def _plan(sender: _Sender, token: str | None, record: Path | None) -> Plan:
    fresh = Plan(await sender.chain_id(), sender.address, await sender.nonce("pending"), token)
    known = None if record is None else Plan.load(record)
    if record is None or known is None:
        return fresh
    for what in ("chain_id", "sender", "token"):
        found, wanted = getattr(known, what), getattr(fresh, what)
        if found != wanted and not (what == "token" and wanted is None):
            raise OtherRecord(record, what.replace("_", " "), found, wanted)
    mined = await sender.nonce("latest")
    for place in range(known.market_place + 2):
        if known.nonce + place < mined and not await sender.has_code(known.at(place)):
            # Another transaction has the nonce. A token that stands already is kept.
            kept = known.at(0) if known.token is None and await sender.has_code(known.at(0)) else known.token
            return replace(fresh, token=kept)
    return known


async def mint(rpc_url: str, signer: Signer | str, token: str, to: str, amount: int) -> None:
    """Mint `amount` base units of a development token."""
    async with _sender(rpc_url, signer) as sender:
        function = sender.contract("DevToken", token).functions.mint(to_checksum_address(to), amount)
        await sender.send("mint", function, await sender.nonce("pending"))


class _Sender:
    def __init__(self, web3: Any, url: str, signer: Signer) -> None:
        self._web3, self._url, self._signer = web3, url, signer

    def contract(self, name: str, address: str) -> Any:
        return self._web3.eth.contract(address=to_checksum_address(address), abi=abi.artifact(name).abi)

    @property
    def address(self) -> ChecksumAddress:
        return to_checksum_address(self._signer.address)

    async def chain_id(self) -> int:
        return int(await rpc.ask(self._url, "eth_chainId", self._web3.eth.chain_id))

    async def nonce(self, block: str) -> int:
        """Of the next transaction, as of a block."""
        request = self._web3.eth.get_transaction_count(self.address, block)
        return int(await rpc.ask(self._url, "eth_getTransactionCount", request))

    async def has_code(self, address: str) -> bool:
        return bool(await rpc.ask(self._url, "eth_getCode", self._web3.eth.get_code(address)))

    async def create(self, name: str, plan: Plan, place: int, *arguments: str) -> None:
        """Deploy a contract where it is planned; nothing happens if it is there."""
        call, nonce, address = f"the deployment of {name}", plan.nonce + place, plan.at(place)
        if await self.has_code(address):
            return
        artifact = abi.artifact(name)
        factory = self._web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        try:
            sent = await self._broadcast(call, factory.constructor(*arguments), nonce)
        except RpcUnavailable as error:
            if not any(text in str(error).lower() for text in _THERE_ALREADY):
                raise
            sent = "sent before"
        began = time.monotonic()
        while not await self.has_code(address):
            if await self.nonce("latest") > nonce and not await self.has_code(address):
                raise Reverted(call, f"another transaction of {self.address} has nonce {nonce}, or it ran out of gas")
            if time.monotonic() - began > _GIVE_UP_SECONDS:
                raise TransactionLost(call, sent, _GIVE_UP_SECONDS)
            await asyncio.sleep(_POLL_SECONDS)

    async def send(self, call: str, function: Any, nonce: int) -> None:
        """Send a call and await its block."""
        hash_ = await self._broadcast(call, function, nonce)
        await rpc.ask(self._url, call, self._web3.eth.wait_for_transaction_receipt(hash_, poll_latency=_POLL_SECONDS))

    async def _broadcast(self, call: str, function: Any, nonce: int) -> str:
        offered = await fees(self._web3.eth, lambda name, request: rpc.ask(self._url, name, request))
        blank = {"from": self.address, "nonce": nonce, "chainId": await self.chain_id(), **offered}
        transaction = await rpc.ask(self._url, call, function.build_transaction(blank))
        raw = await self._signer.sign_transaction({n: v for n, v in transaction.items() if n != "from"})
        return "0x" + bytes(await rpc.ask(self._url, call, self._web3.eth.send_raw_transaction(raw))).hex()


@asynccontextmanager
async def _sender(url: str, signer: Signer | str) -> AsyncIterator[_Sender]:
    web3 = rpc.connect(url)
    try:
        yield _Sender(web3, url, KeySigner(signer) if isinstance(signer, str) else signer)
    finally:
        await web3.provider.disconnect()
