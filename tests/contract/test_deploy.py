"""A set of contracts is deployed once, however often it is begun, and by whatever signs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from covey_chain import signing
from covey_chain.anvil import Node, anvil
from covey_chain.client import Chain
from covey_chain.deploy import OtherRecord, deploy_all
from covey_chain.errors import NoContract, RpcUnavailable
from covey_chain.signers import KeySigner
from covey_chain.types import Deployment
from covey_chain.wallet import Wallet
from lab import BOTH, Lab
from test_transaction_queue import pooled

pytestmark = pytest.mark.chain


async def count(node: Node, chain: Chain) -> int:
    address = KeySigner(node.keys[5]).address
    return int(await chain.ask("count", chain.web3.eth.get_transaction_count(address)))  # type: ignore[arg-type]


@BOTH
async def test_a_second_run_says_the_same_and_sends_nothing(node: Node, chain: Chain, tmp_path: Path) -> None:
    record = tmp_path / "deployment.json"
    before = await count(node, chain)
    first = await deploy_all(node.url, node.keys[5], record=record)
    assert await count(node, chain) == before + 3
    assert await deploy_all(node.url, node.keys[5], record=record) == first
    assert await count(node, chain) == before + 3
    other = await deploy_all(node.url, node.keys[5])
    assert not {*vars_of(other)} & {*vars_of(first)}


def vars_of(deployment: Deployment) -> tuple[str, ...]:
    return deployment.settlement, deployment.registry, deployment.market, deployment.token


@BOTH
async def test_a_token_that_is_there_is_taken(node: Node, lab: Lab, tmp_path: Path) -> None:
    token = lab.deployment.token
    made = await deploy_all(node.url, node.keys[5], token.lower(), tmp_path / "deployment.json")
    assert made.token == token
    chain = await Chain.connect(node.url, node.chain_id, made.settlement)
    await Wallet(chain, node.keys[5]).create_consortium("ours", token, 1)
    found = await chain.consortium("ours")
    await chain.close()
    assert found is not None
    assert found.stake_token == token


async def test_a_token_that_is_none_is_told(node: Node, deployment: Deployment, tmp_path: Path) -> None:
    with pytest.raises(NoContract, match="no token contract at 0x1212"):
        await deploy_all(node.url, node.keys[5], "0x" + "12" * 20, tmp_path / "deployment.json")
    assert not (tmp_path / "deployment.json").exists()


@pytest.mark.parametrize("mined", [0, 1, 2])
async def test_a_run_that_was_broken_off_is_gone_on_with(own_node: Lab, tmp_path: Path, mined: int) -> None:
    """Broken off while contract `mined` waits for its block, which comes before or after the second run begins."""
    node, record = own_node.node, tmp_path / "deployment.json"
    await own_node.rpc("evm_setAutomine", False)
    first = asyncio.create_task(deploy_all(node.url, node.keys[5], record=record))
    for _ in range(mined):
        await pooled(own_node, 1)
        await own_node.rpc("evm_mine")
    await pooled(own_node, 1)
    first.cancel()
    second = asyncio.create_task(deploy_all(node.url, node.keys[5], record=record))
    await asyncio.sleep(0.2)
    await own_node.rpc("evm_mine")
    await own_node.rpc("evm_setAutomine", True)
    await own_node.rpc("evm_mine")
    made = await second
    assert await count(node, own_node.chain) == 3
    chain = await Chain.connect(node.url, node.chain_id, made.settlement)
    assert chain.market_contract.address == made.market
    await chain.close()


async def test_a_nonce_that_went_elsewhere_starts_the_plan_anew_and_keeps_the_token(
    own_node: Lab, tmp_path: Path
) -> None:
    node, record = own_node.node, tmp_path / "deployment.json"
    await own_node.rpc("evm_setAutomine", False)
    first = asyncio.create_task(deploy_all(node.url, node.keys[5], record=record))
    await pooled(own_node, 1)
    await own_node.rpc("evm_mine")
    (market,) = await pooled(own_node, 1)
    first.cancel()
    await own_node.rpc("anvil_dropTransaction", market["hash"])
    await own_node.rpc("evm_setAutomine", True)
    await Wallet(own_node.chain, node.keys[5]).fund(signing.address_of(signing.new_key()), 1)
    made = await deploy_all(node.url, node.keys[5], record=record)
    assert await count(node, own_node.chain) == 4
    assert await own_node.chain.token_symbol(made.token)
    assert await deploy_all(node.url, node.keys[5], record=record) == made


async def test_a_record_of_another_account_or_token_is_not_touched(
    node: Node, deployment: Deployment, tmp_path: Path
) -> None:
    record = tmp_path / "deployment.json"
    await deploy_all(node.url, node.keys[5], record=record)
    kept = record.read_text()
    with pytest.raises(OtherRecord, match="with sender 0x"):
        await deploy_all(node.url, node.keys[6], record=record)
    with pytest.raises(OtherRecord, match="with token None"):
        await deploy_all(node.url, node.keys[5], deployment.token, record)
    assert record.read_text() == kept


async def test_no_node_is_told(tmp_path: Path) -> None:
    with pytest.raises(RpcUnavailable):
        await deploy_all("http://127.0.0.1:9", "0x" + "4c" * 32, record=tmp_path / "deployment.json")
    assert not (tmp_path / "deployment.json").exists()


@pytest.fixture
async def own_node() -> object:
    """A node of the test's own, whose account 5 has sent nothing."""
    with anvil() as node:
        made = await deploy_all(node.url, node.keys[0])
        chain = await Chain.connect(node.url, node.chain_id, made.settlement)
        yield Lab(node, made, chain, [])
        await chain.close()
