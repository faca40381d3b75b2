"""Deployment of a set of contracts, for development chains and as the model of a real one."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from eth_utils.address import to_checksum_address
from web3 import AsyncHTTPProvider, AsyncWeb3

from covey_chain import abi
from covey_chain.rpc import ask
from covey_chain.signing import private_key
from covey_chain.types import Deployment


class _Sender:
    def __init__(self, web3: AsyncWeb3[Any], url: str, key: str) -> None:
        self.web3, self.url = web3, url
        self.account = Account.from_key(private_key(key))

    async def send(self, call: str, function: Any) -> Any:
        eth = self.web3.eth
        transaction = await ask(
            self.url,
            call,
            function.build_transaction(
                {
                    "from": self.account.address,
                    "nonce": await eth.get_transaction_count(self.account.address),
                    "chainId": await eth.chain_id,
                }
            ),
        )
        signed = self.account.sign_transaction(transaction)
        hash_ = await ask(self.url, call, eth.send_raw_transaction(signed.raw_transaction))
        return await ask(self.url, call, eth.wait_for_transaction_receipt(hash_, poll_latency=0.05))

    async def create(self, name: str, *arguments: str) -> str:
        artifact = abi.artifact(name)
        factory = self.web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = await self.send(f"deploy {name}", factory.constructor(*arguments))
        return to_checksum_address(receipt["contractAddress"])


async def deploy_all(rpc_url: str, key: str) -> Deployment:
    """Deploy registry, market, settlement and a development token.

    Args:
        rpc_url: JSON-RPC end point.
        key: 0x-hex private key of an account with native coin.
    """
    web3: AsyncWeb3[Any] = AsyncWeb3(AsyncHTTPProvider(rpc_url))
    try:
        sender = _Sender(web3, rpc_url, key)
        token = await sender.create("DevToken")
        registry = await sender.create("MemberRegistry")
        market = await sender.create("TaskMarket", registry)
        settlement = await sender.create("Settlement", registry, market)
        contract = web3.eth.contract(address=to_checksum_address(market), abi=abi.artifact("TaskMarket").abi)
        await sender.send("setSettlement", contract.functions.setSettlement(settlement))
        return Deployment(settlement, registry, market, token)
    finally:
        await web3.provider.disconnect()


async def mint(rpc_url: str, key: str, token: str, to: str, amount: int) -> None:
    """Mint `amount` base units of a development token."""
    web3: AsyncWeb3[Any] = AsyncWeb3(AsyncHTTPProvider(rpc_url))
    try:
        contract = web3.eth.contract(address=to_checksum_address(token), abi=abi.artifact("DevToken").abi)
        await _Sender(web3, rpc_url, key).send("mint", contract.functions.mint(to_checksum_address(to), amount))
    finally:
        await web3.provider.disconnect()
