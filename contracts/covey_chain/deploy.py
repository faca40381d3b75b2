"""Deployment of a set of contracts, for development chains and as the model of a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from web3.types import Nonce
from web3.utils.address import get_create_address

from covey_chain import abi, rpc
from covey_chain.signing import private_key
from covey_chain.types import Deployment


async def deploy_all(rpc_url: str, key: str) -> Deployment:
    """Deploy a set of contracts and a development token.

    The market names the address at which Settlement comes to be, and Settlement takes no other market: nobody can come
    in between.

    Args:
        rpc_url: JSON-RPC end point.
        key: 0x-hex private key of an account with native coin, which nothing else sends from meanwhile.
    """
    async with _sender(rpc_url, key) as sender:
        token = await sender.create("DevToken")
        market = await sender.create("TaskMarket", get_create_address(sender.address, Nonce(await sender.nonce() + 1)))
        settlement = await sender.create("Settlement", market)
        registry = await rpc.ask(
            rpc_url, "registry", sender.contract("Settlement", settlement).functions.registry().call()
        )
        return Deployment(settlement, str(registry), market, token)


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

    @property
    def address(self) -> ChecksumAddress:
        return to_checksum_address(self._account.address)

    async def nonce(self) -> int:
        """Of the next transaction."""
        pending = self._web3.eth.get_transaction_count(self._account.address, "pending")
        return int(await rpc.ask(self._url, "eth_getTransactionCount", pending))

    async def create(self, name: str, *arguments: str) -> str:
        artifact = abi.artifact(name)
        factory = self._web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = await self.send(f"the deployment of {name}", factory.constructor(*arguments))
        return to_checksum_address(receipt["contractAddress"])

    async def send(self, call: str, function: Any) -> Any:
        return await rpc.ask(self._url, call, self._send(function))

    async def _send(self, function: Any) -> Any:
        eth, nonce, chain_id = self._web3.eth, await self.nonce(), await self._web3.eth.chain_id
        transaction = await function.build_transaction({"from": self.address, "nonce": nonce, "chainId": chain_id})
        raw = self._account.sign_transaction(transaction).raw_transaction
        return await eth.wait_for_transaction_receipt(await eth.send_raw_transaction(raw), poll_latency=0.05)


@asynccontextmanager
async def _sender(url: str, key: str) -> AsyncIterator[_Sender]:
    web3 = rpc.connect(url)
    try:
        yield _Sender(web3, url, Account.from_key(private_key(key)))
    finally:
        await web3.provider.disconnect()
