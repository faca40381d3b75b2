"""A chain without fees, as consortia run them: an account without a coin deploys, joins and stakes."""

from __future__ import annotations

import subprocess

import pytest
from covey_chain import signing
from covey_chain.anvil import CHAIN_ID, FUNDED_KEYS, Node, binary, free_port
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.wallet import Wallet
from lab import CONSORTIUM, TOKEN, Lab, until

pytestmark = pytest.mark.chain


@pytest.fixture
async def free() -> object:
    port = free_port()
    command = [binary(), "--port", str(port), "--base-fee", "0", "--gas-price", "0", "--disable-min-priority-fee"]
    process = subprocess.Popen([*command, "--chain-id", str(CHAIN_ID), "--silent"])  # noqa: ASYNC220
    yield Node(f"http://127.0.0.1:{port}", CHAIN_ID, FUNDED_KEYS, process.pid)
    process.terminate()
    process.wait(10)


async def test_an_account_without_a_coin_takes_part(free: Node) -> None:
    key = "0x" + signing.new_key().hex()

    async def up() -> bool:
        try:
            await deploy_all(free.url, free.keys[0])
        except Exception:
            return False
        return True

    await until(up)
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
