"""The way to one node: connections are kept, and a broken one is made anew where asking twice does no harm."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from covey_chain.provider import TRIES, KeptHTTPProvider
from web3.types import RPCEndpoint

BLOCK, UNREPEATABLE = RPCEndpoint("eth_blockNumber"), RPCEndpoint("personal_unlockAccount")


class Server:
    """Speaks JSON-RPC; breaks the connection of the next `broken` requests."""

    def __init__(self) -> None:
        self.peers: list[object] = []
        self.broken = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        asked = await request.json()
        if self.broken:
            self.broken -= 1
            request.transport.abort()
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": "0x7"})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.add_routes([web.post("/", made.answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


@pytest.fixture
async def provider(server: Server) -> AsyncIterator[KeptHTTPProvider]:
    made = KeptHTTPProvider(server.url, 10.0)
    yield made
    await made.disconnect()


async def test_requests_share_a_connection(server: Server, provider: KeptHTTPProvider) -> None:
    for _ in range(3):
        assert (await provider.make_request(BLOCK, []))["result"] == "0x7"
    assert len(server.peers) == 3
    assert len(set(server.peers)) == 1


async def test_a_broken_connection_is_made_anew(server: Server, provider: KeptHTTPProvider) -> None:
    await provider.make_request(BLOCK, [])
    server.broken = TRIES - 1
    assert (await provider.make_request(BLOCK, []))["result"] == "0x7"
    assert len(set(server.peers)) == 2


async def test_a_node_that_only_breaks_connections_is_told(server: Server, provider: KeptHTTPProvider) -> None:
    server.broken = TRIES
    with pytest.raises(aiohttp.ClientError):
        await provider.make_request(BLOCK, [])
    assert len(server.peers) == TRIES


async def test_what_must_not_be_asked_twice_is_asked_once(server: Server, provider: KeptHTTPProvider) -> None:
    server.broken = 1
    with pytest.raises(aiohttp.ClientError):
        await provider.make_request(UNREPEATABLE, [])
    assert len(server.peers) == 1


async def test_a_closed_provider_opens_again(provider: KeptHTTPProvider) -> None:
    await provider.make_request(BLOCK, [])
    await provider.disconnect()
    assert (await provider.make_request(BLOCK, []))["result"] == "0x7"
