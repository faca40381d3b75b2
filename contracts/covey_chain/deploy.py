"""Deployment of a set of contracts, for development chains and as the model of a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from covey_chain import abi, rpc
from covey_chain.signing import private_key
from covey_chain.types import Deployment


async def deploy_all(rpc_url: str, key: str) -> Deployment:
    """Deploy a set of contracts and a development token.

    One transaction makes Settlement with its registry and market, so that they can only know each other.

    Args:
        rpc_url: JSON-RPC end point.
        key: 0x-hex private key of an account with native coin, which nothing else sends from meanwhile.
    """
    async with _sender(rpc_url, key) as sender:
        token = await sender.create("DevToken")
        settlement = await sender.create("Settlement")
        functions = sender.contract("Settlement", settlement).functions
        registry = await rpc.ask(rpc_url, "registry", functions.registry().call())
        market = await rpc.ask(rpc_url, "market", functions.market().call())
        return Deployment(settlement, str(registry), str(market), token)


async def mint(rpc_url: str, key: str, token: str, to: str, amount: int) -> None:
    """Mint `amount` base units of a development token."""
    async with _sender(rpc_url, key) as sender:
        contract = sender.contract("DevToken", token)
        await sender.send("mint", contract.functions.mint(to_checksum_address(to), amount))


class _Sender:
    def __init__(self, web3: Any, url: str, account: LocalAccount) -> None:
        self._web3, self._url, self._account = web3, url, account

    def contract(self, name: str, address: str) -> Any:
        return self._web3.eth.contract(address=to_checksum_address(address), abi=abi.artifact(name).abi)

    async def create(self, name: str) -> str:
        artifact = abi.artifact(name)
        factory = self._web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = await self.send(f"the deployment of {name}", factory.constructor())
        return to_checksum_address(receipt["contractAddress"])

    async def send(self, call: str, function: Any) -> Any:
        return await rpc.ask(self._url, call, self._send(function))

    async def _send(self, function: Any) -> Any:
        eth, sender = self._web3.eth, self._account.address
        nonce = await eth.get_transaction_count(sender, "pending")
        transaction = await function.build_transaction({"from": sender, "nonce": nonce, "chainId": await eth.chain_id})
        raw = self._account.sign_transaction(transaction).raw_transaction
        return await eth.wait_for_transaction_receipt(await eth.send_raw_transaction(raw), poll_latency=0.05)


@asynccontextmanager
async def _sender(url: str, key: str) -> AsyncIterator[_Sender]:
    web3 = rpc.connect(url)
    try:
        yield _Sender(web3, url, Account.from_key(private_key(key)))
    finally:
        await web3.provider.disconnect()
