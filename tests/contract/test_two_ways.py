"""Two ways to one real node: whichever is bad, reads go on, and no intent is lost or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from covey_chain import signing
from covey_chain.anvil import Node
from covey_chain.client import Chain
from covey_chain.errors import RpcUnavailable, WrongChain
from covey_chain.failover import Failover
from covey_chain.queue import Pace
from covey_chain.types import Deployment
from covey_chain.wallet import Wallet
from lab import CONSORTIUM, TOKEN, Lab, until
from proxy import Mode, Way
from test_transaction_queue import pooled

pytestmark = pytest.mark.chain

BRISK = Pace(last_poll=0.05, bump=3600)
BAD = [Mode.CUT, Mode.SILENT, Mode.BROKEN, Mode.PAGE]


@pytest.fixture
async def ways(node: Node) -> AsyncIterator[tuple[Way, Way]]:
    async with Way(node).open() as first, Way(node).open() as second:
        yield first, second


@pytest.fixture
async def far(lab: Lab, ways: tuple[Way, Way]) -> AsyncIterator[Lab]:
    """The lab, with a chain that is reached through the two ways."""
    first, second = ways
    chain = await connect(lab.deployment, first, second)
    wallets = [Wallet(chain, key, pace=BRISK) for key in lab.node.keys[1:4]]
    yield Lab(lab.node, lab.deployment, chain, wallets)
    await chain.close()


async def connect(deployment: Deployment, first: Way, *others: Way) -> Chain:
    fallbacks = [way.url for way in others]
    return await Chain.connect(first.url, 31337, deployment.settlement, timeout_seconds=1.0, fallbacks=fallbacks)


@pytest.mark.parametrize("mode", BAD)
async def test_reads_go_on_through_the_second_way(far: Lab, ways: tuple[Way, Way], mode: Mode) -> None:
    before = await far.chain.block_number()
    ways[0].mode = mode
    assert await far.chain.block_number() == before
    assert ways[1].asked


@pytest.mark.parametrize("mode", BAD)
async def test_the_first_way_may_be_bad_from_the_start(
    deployment: Deployment, ways: tuple[Way, Way], mode: Mode
) -> None:
    ways[0].mode = mode
    chain = await connect(deployment, *ways)
    assert await chain.consortium("nowhere") is None
    await chain.close()


async def test_the_first_way_is_taken_again_after_its_rest(far: Lab, ways: tuple[Way, Way]) -> None:
    provider = far.chain.web3.provider
    assert isinstance(provider, Failover)
    now = 0.0
    provider._clock = lambda: now
    ways[0].mode = Mode.CUT
    await far.chain.block_number()
    ways[0].mode = Mode.OPEN
    ways[0].asked.clear()
    await far.chain.block_number()
    assert ways[0].asked == []
    now = 61.0
    await far.chain.block_number()
    assert ways[0].asked == ["eth_chainId", "eth_blockNumber", "eth_blockNumber"]


@pytest.mark.parametrize("mode", BAD)
async def test_a_member_joins_while_one_way_breaks_in_the_middle(far: Lab, ways: tuple[Way, Way], mode: Mode) -> None:
    enrolling = asyncio.create_task(far.enrol())

    async def under_way() -> bool:
        return "eth_sendRawTransaction" in ways[0].asked

    await until(under_way)
    ways[0].mode = mode
    await enrolling
    for wallet in far.wallets:
        member = await far.chain.member(CONSORTIUM, wallet.address)
        assert member is not None
        assert member.stake == 1000 * TOKEN


async def test_a_transaction_whose_answer_was_lost_is_not_sent_twice(far: Lab, ways: tuple[Way, Way]) -> None:
    """It is mined at once, and the second way says `nonce too low`: that is this transaction, not a stranger's."""
    target = signing.address_of(signing.new_key())
    count = await far.rpc("eth_getTransactionCount", far.planner.address, "latest")
    ways[0].mode = Mode.DEAF
    receipt = await far.planner.fund(target, 10**15)
    assert all("eth_sendRawTransaction" in way.asked for way in ways)
    assert receipt.tx_hash is not None
    assert int(await far.rpc("eth_getTransactionCount", far.planner.address, "latest"), 16) == int(count, 16) + 1
    assert await far.chain.native_balance(target) == 10**15


async def test_what_waits_for_its_block_is_found_through_the_other_way(
    lab: Lab, far: Lab, ways: tuple[Way, Way]
) -> None:
    await lab.rpc("evm_setAutomine", False)
    target = signing.address_of(signing.new_key())
    funding = asyncio.create_task(far.planner.fund(target, 10**15))
    (sent,) = await pooled(lab, 1)
    ways[0].mode = Mode.SILENT
    await lab.rpc("evm_setAutomine", True)
    await lab.rpc("evm_mine")
    assert (await funding).tx_hash == sent["hash"]


async def test_a_way_with_old_news_is_not_taken(lab: Lab, far: Lab, ways: tuple[Way, Way]) -> None:
    old = await far.chain.block_number()
    ways[0].mode = Mode.STALE
    ways[1].mode = Mode.CUT
    await lab.rpc("evm_mine")
    assert await far.chain.block_number() == old  # nobody knows better yet
    ways[1].mode = Mode.OPEN
    ways[0].mode = Mode.CUT
    assert await far.chain.block_number() == old + 1
    ways[0].mode, ways[1].mode = Mode.STALE, Mode.CUT
    with pytest.raises(RpcUnavailable, match=f"newest block is {old}, and {old + 1} has been seen"):
        await far.chain.block_number()


async def test_both_ways_gone_is_told_and_mends_at_once(far: Lab, ways: tuple[Way, Way]) -> None:
    ways[0].mode = ways[1].mode = Mode.CUT
    with pytest.raises(RpcUnavailable, match=rf"{ways[0].url}: .*{ways[1].url}: "):
        await far.chain.block_number()
    ways[1].mode = Mode.OPEN
    await far.chain.block_number()


async def test_a_fallback_of_another_chain_is_not_taken(
    node: Node, deployment: Deployment, ways: tuple[Way, Way]
) -> None:
    with pytest.raises(WrongChain, match="chain 31337, not 1"):
        await Chain.connect(ways[0].url, 1, deployment.settlement, fallbacks=[ways[1].url])
