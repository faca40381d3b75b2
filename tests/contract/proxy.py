"""A way to a node that can be bad: closed, silent, full of nonsense, late with the newest blocks, or losing answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

import aiohttp
from aiohttp import web
from covey_chain.anvil import Node, free_port


class Mode(Enum):
    OPEN = "as if it were not there"
    CUT = "connections break"
    SILENT = "connections stay open and nothing comes"
    BROKEN = "HTTP 500"
    PAGE = "a page for people"
    STALE = "the newest block is an old one"
    DEAF = "transactions arrive, what the node says to them is lost"


class Way:
    """One end point. `mode` can be changed at any time; `asked` are the methods that came."""

    def __init__(self, node: Node) -> None:
        self._node, self._port, self._over = node, free_port(), asyncio.Event()
        self.mode = Mode.OPEN
        self.asked: list[str] = []
        self._frozen: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Way]:
        app = web.Application()
        app.add_routes([web.post("/", self._pass)])
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self._port).start()
        async with aiohttp.ClientSession() as self._session:
            yield self
            self._over.set()
            await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.Response:
        body = await request.read()
        asked = json.loads(body)
        self.asked.append(asked["method"])
        mode = self.mode
        if mode is Mode.BROKEN:
            return web.Response(status=500, text="out of order")
        if mode is Mode.PAGE:
            return web.Response(text="<html>welcome</html>", content_type="text/html")
        if mode is Mode.CUT:
            return self._break(request)
        if mode is Mode.SILENT:
            await self._over.wait()
        headers = {"Content-Type": "application/json"}
        async with self._session.post(self._node.url, data=body, headers=headers) as response:
            answer = await response.json()
        if mode is Mode.DEAF and asked["method"] == "eth_sendRawTransaction":
            return self._break(request)
        if asked["method"] == "eth_blockNumber":
            self._frozen = self._frozen if mode is Mode.STALE and self._frozen else answer["result"]
            answer["result"] = self._frozen
        return web.json_response(answer)

    @staticmethod
    def _break(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
