"""The queue on geth, which holds transactions back for a block's time and has rules of its own for its pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from covey_chain import signing
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all
from covey_chain.journal import Journal
from covey_chain.queue import Pace
from geth_node import geth
from lab import Lab
from test_transaction_queue import again, funded, pooled

pytestmark = pytest.mark.chain

PERIOD = 2


@pytest.fixture(scope="module")
def slow() -> object:
    """A node that makes a block every two seconds, and contracts on it."""
    with geth(PERIOD) as node:
        yield node, asyncio.run(deploy_all(node.url, node.keys[0]))


@pytest.fixture
async def lab(slow) -> AsyncIterator[Lab]:
    node, deployment = slow
    chain = await Chain.connect(node.url, node.chain_id, deployment.settlement)
    yield Lab(node, deployment, chain, [])
    await chain.close()


async def nonce(lab: Lab) -> int:
    return int(await lab.rpc("eth_getTransactionCount", again(lab).address, "latest"), 16)


async def test_a_restart_finds_what_waits_for_its_block(lab: Lab, tmp_path: Path) -> None:
    path, before, target = tmp_path / "journal.json", await nonce(lab), signing.address_of(signing.new_key())
    first = asyncio.create_task(again(lab, Journal(path)).fund(target, 10**15))
    (sent,) = await pooled(lab, 1)
    first.cancel()
    assert (await again(lab, Journal(path)).fund(target, 10**15)).tx_hash == sent["hash"]
    assert await nonce(lab) == before + 1


async def test_fees_rise_by_as_much_as_the_pool_asks(lab: Lab) -> None:
    """A block may come before the rise does: then it is tried again."""
    for _ in range(10):
        target, before = signing.address_of(signing.new_key()), await nonce(lab)
        funding = asyncio.create_task(again(lab, pace=Pace(last_poll=0.1, bump=0.3)).fund(target, 10**15))
        (first,) = await pooled(lab, 1)
        mined = (await funding).tx_hash
        assert await nonce(lab) == before + 1
        if mined != first["hash"]:
            return
    raise AssertionError("no rise of the fees was ever mined")


async def test_a_transaction_that_a_new_history_has_lost_is_sent_again(lab: Lab) -> None:
    target, before = signing.address_of(signing.new_key()), await nonce(lab)
    funding = asyncio.create_task(again(lab, confirmations=3).fund(target, 10**15))
    await funded(lab, target)
    mined = await lab.chain.block_number()
    await lab.rpc("debug_setHead", hex(mined - 1))
    receipt = await funding
    assert receipt.tx_hash is not None
    assert await lab.chain.native_balance(target) == 10**15
    assert await nonce(lab) == before + 1
