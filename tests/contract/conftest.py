"""A real EVM node with deployed contracts, and members with keys of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from covey_chain import rpc
from covey_chain.anvil import CHAIN_ID, Node, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.signing import address_of, private_key
from covey_chain.types import Deployment
from covey_chain.wallet import Wallet
from geth_node import geth
from lab import TOKEN, Lab

MEMBERS = slice(1, 4)


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """anvil, unless the test asks for others with `lab.BOTH`."""
    start = geth if getattr(request, "param", "anvil") == "geth" else anvil
    with start() as running:
        yield running


async def deploy(node: Node) -> Deployment:
    """A set of contracts, with tokens for three members."""
    made = await deploy_all(node.url, node.keys[0])
    for key in node.keys[MEMBERS]:
        await mint(node.url, node.keys[0], made.token, address_of(private_key(key)), 100_000 * TOKEN)
    return made


@pytest.fixture(scope="session")
def contracts(node: Node) -> Deployment | None:
    """Deployed once, where the chain can be put back to how it was."""
    return asyncio.run(deploy(node)) if node.chain_id == CHAIN_ID else None


@pytest.fixture
async def deployment(node: Node, contracts: Deployment | None) -> AsyncIterator[Deployment]:
    """The contracts as if nobody had used them: afterwards anvil forgets what the test has done, geth deploys anew."""
    if contracts is None:
        yield await deploy(node)
        return
    provider = rpc.connect(node.url).provider

    async def ask(method: str, *arguments: object) -> object:
        answer = await provider.make_request(method, list(arguments))
        assert "error" not in answer, answer
        return answer["result"]

    snapshot = await ask("evm_snapshot")
    yield contracts
    await ask("anvil_dropAllTransactions")
    await ask("evm_setAutomine", True)
    assert await ask("evm_revert", snapshot) is True
    await provider.disconnect()


@pytest.fixture
async def chain(node: Node, deployment: Deployment) -> AsyncIterator[Chain]:
    connected = await Chain.connect(node.url, node.chain_id, deployment.settlement)
    yield connected
    await connected.close()


@pytest.fixture
def wallets(node: Node, chain: Chain) -> list[Wallet]:
    return [Wallet(chain, key) for key in node.keys[MEMBERS]]


@pytest.fixture
def lab(node: Node, deployment: Deployment, chain: Chain, wallets: list[Wallet]) -> Lab:
    return Lab(node, deployment, chain, wallets)
