"""A chain without fees, as consortia run them: an account without a coin deploys, joins and stakes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from covey_chain import signing
from covey_chain.anvil import Node, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.wallet import Wallet
from lab import CONSORTIUM, TOKEN, Lab

pytestmark = pytest.mark.chain


@pytest.fixture
def free() -> Iterator[Node]:
    with anvil(free_gas=True) as running:
        yield running


async def test_an_account_without_a_coin_takes_part(free: Node) -> None:
    key = "0x" + signing.new_key().hex()
    made = await deploy_all(free.url, key)
    await mint(free.url, key, made.token, signing.address_of(signing.private_key(key)), 1000 * TOKEN)
    chain = await Chain.connect(free.url, free.chain_id, made.settlement)
    wallet = Wallet(chain, key)
    assert await chain.native_balance(wallet.address) == 0
    await Lab(free, made, chain, [wallet]).enrol()
    member = await chain.member(CONSORTIUM, wallet.address)
    await chain.close()
    assert member is not None
    assert member.stake == 1000 * TOKEN
