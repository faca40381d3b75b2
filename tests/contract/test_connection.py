"""What is wrong with a node, an address or a key is told apart, with its remedy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from covey_chain import rpc, signing
from covey_chain.anvil import STATES_KEPT, Node, PortTakenError, anvil, binary, free_port
from covey_chain.client import Chain
from covey_chain.errors import BadWalletKey, NoContract, RpcUnavailable, WrongChain
from covey_chain.types import Deployment
from covey_chain.wallet import Wallet
from lab import CONSORTIUM, Lab
from web3.constants import ADDRESS_ZERO
from web3.exceptions import Web3RPCError
from web3.types import RPCEndpoint

pytestmark = pytest.mark.chain


@pytest.fixture
async def web_site() -> AsyncIterator[str]:
    """Something that speaks HTTP, but not JSON-RPC."""

    over = asyncio.Event()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    async def broken(_: web.Request) -> web.Response:
        return web.Response(status=502, text="bad gateway")

    async def slow(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response(text="too late")

    app = web.Application()
    app.add_routes([web.post("/page", page), web.post("/broken", broken), web.post("/slow", slow)])
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    over.set()
    await runner.cleanup()


async def test_a_dead_end_point_is_unavailable(deployment: Deployment) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RpcUnavailable, match=rf"no answer from the chain at {url} .* check chain\.rpcUrl"):
        await Chain.connect(url, 31337, deployment.settlement)


@pytest.mark.parametrize("path", ["page", "broken", "nowhere", "slow"])
async def test_what_does_not_speak_json_rpc_is_unavailable(web_site: str, path: str, deployment: Deployment) -> None:
    with pytest.raises(RpcUnavailable, match=r"check chain\.rpcUrl"):
        await Chain.connect(f"{web_site}/{path}", 31337, deployment.settlement, timeout_seconds=0.2)


async def test_secrets_in_a_url_are_not_shown(deployment: Deployment) -> None:
    with pytest.raises(RpcUnavailable) as caught:
        await Chain.connect(f"http://me:hidden@127.0.0.1:{free_port()}/?key=hidden", 31337, deployment.settlement)
    assert "hidden" not in str(caught.value)


async def test_a_node_of_another_chain_is_refused(node: Node, deployment: Deployment) -> None:
    with pytest.raises(WrongChain, match=r"chain 31337, not 1; correct chain\.rpcUrl or chain\.chainId"):
        await Chain.connect(node.url, 1, deployment.settlement)


async def test_an_address_without_settlement_is_refused(node: Node, deployment: Deployment) -> None:
    for address in ("0x" + "12" * 20, deployment.token, deployment.market):
        with pytest.raises(NoContract, match=rf"{address[:6]}.* on chain 31337; correct chain\.contract"):
            await Chain.connect(node.url, node.chain_id, address)


async def test_a_token_that_is_none_is_refused(lab: Lab) -> None:
    await lab.enrol()
    with pytest.raises(NoContract, match="with balanceOf"):
        await lab.publish(token="0x" + "12" * 20)


async def test_a_node_that_refuses_a_request_says_why(lab: Lab) -> None:
    with pytest.raises(RpcUnavailable, match=r"refused eth_getLogs: .*another one"):
        await lab.chain.events(0, await lab.chain.block_number() + 2**40)


async def test_a_node_that_has_lost_its_logs_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.enrol()
    task_id = await lab.publish()

    async def none(_from: int, _to: int) -> list[object]:
        return []

    monkeypatch.setattr(lab.chain, "events", none)
    with pytest.raises(RpcUnavailable, match="refused the log with the terms of task 0x"):
        await lab.chain.task(task_id)


async def test_a_bad_key_is_refused_without_showing_it(chain: Chain) -> None:
    for bad in ("0x1234secret", "0x" + "5e" * 31 + "zz", "0x" + "00" * 32):
        with pytest.raises(BadWalletKey) as caught:
            Wallet(chain, bad)
        assert bad[4:] not in str(caught.value)


async def test_anvil_says_when_its_port_is_taken() -> None:
    with anvil() as running:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(PortTakenError, match="taken"), anvil(port=port):
            raise AssertionError("two nodes on one port")


async def test_anvil_keeps_some_states_and_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COVEY_ANVIL", binary())
    monkeypatch.setenv("HOME", str(tmp_path))  # where it would write them
    with anvil() as running:
        web3 = rpc.connect(running.url)
        asked = await web3.provider.make_request(RPCEndpoint("anvil_mine"), [1000])
        assert "error" not in asked
        head = await web3.eth.block_number
        assert await web3.eth.get_balance(ADDRESS_ZERO, head - STATES_KEPT + 1) == 0
        with pytest.raises(Web3RPCError):
            await web3.eth.get_balance(ADDRESS_ZERO, head - 2 * STATES_KEPT)
        await web3.provider.disconnect()
    assert await asyncio.to_thread(lambda: list(tmp_path.rglob("*.json"))) == []


async def test_an_address_is_that_of_its_key(lab: Lab) -> None:
    key = signing.private_key(lab.node.keys[1])
    assert lab.planner.address == signing.address_of(key)
    assert await lab.chain.member(CONSORTIUM, lab.planner.address.lower()) is None
