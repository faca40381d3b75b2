"""A real EVM node with deployed contracts, and members with keys of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from covey_chain.anvil import Node, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.types import Deployment
from covey_chain.wallet import Wallet

TOKEN = 10**18


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    with anvil() as running:
        yield running


@pytest.fixture
async def deployment(node: Node) -> Deployment:
    return await deploy_all(node.url, node.keys[0])


@pytest.fixture
async def chain(node: Node, deployment: Deployment) -> AsyncIterator[Chain]:
    connected = await Chain.connect(node.url, node.chain_id, deployment.settlement)
    yield connected
    await connected.close()


@pytest.fixture
async def wallets(node: Node, deployment: Deployment, chain: Chain) -> list[Wallet]:
    made = [Wallet(chain, key) for key in node.keys[1:4]]
    for wallet in made:
        await mint(node.url, node.keys[0], deployment.token, wallet.address, 100_000 * TOKEN)
    return made
