"""A proxy before the real API server that fails on request: answers of its own, broken connections, outages."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from covey_dev.apiserver import ApiServer

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass(frozen=True)
class Fault:
    """What happens in place of an answer.

    Attributes:
        name: counted under it.
        status: answered with this code, without asking the API server.
        retry_after_seconds: stands in the header of that answer.
        lost: the API server gets the request, but the connection breaks before its answer.
        event: a watch ends with an event of this code: 410 that its resource version is too old.
    """

    name: str
    status: int | None = None
    retry_after_seconds: int | None = None
    lost: bool = False
    event: int | None = None


RESET = Fault("reset")
LOST_ANSWER = Fault("lost answer", lost=True)
EXPIRED, WATCH_BROKEN = Fault("410", event=410), Fault("500 of a watch", event=500)
CONFLICT, BUSY = Fault("409", 409), Fault("429", 429, retry_after_seconds=1)
BROKEN, UNAVAILABLE = Fault("500", 500), Fault("503", 503, retry_after_seconds=1)


class FaultyApi:
    """The proxy; `decide` is asked before each request, `told` after each write that the API server has answered."""

    def __init__(self, server: ApiServer) -> None:
        self.decide: Callable[[web.Request], Fault | None] = lambda _: None
        self.told: Callable[[], None] = lambda: None
        self.injected: Counter[str] = Counter()
        self.port = 0
        self._server = server
        self._open: set[asyncio.Transport] = set()

    def kubeconfig(self, like: Path, at: Path) -> Path:
        """A kubeconfig as another one, by way of the proxy."""
        content = yaml.safe_load(like.read_text())
        content["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        at.write_text(yaml.safe_dump(content))
        return at

    def break_all(self) -> None:
        """Break all connections that stand, watches too."""
        for transport in self._open:
            transport.abort()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FaultyApi]:
        """Serve while the block runs."""
        trust = ssl.create_default_context(cafile=str(self._server.ca_certificate))
        connector = aiohttp.TCPConnector(ssl=trust, limit=0)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, skip_auto_headers=["Content-Type"]
        ) as client:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, client)

            app = web.Application(client_max_size=2**24)
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)  # 0 would wait for ever
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = runner.addresses[0][1]
            try:
                yield self
            finally:
                await runner.cleanup()

    async def _handle(self, request: web.Request, client: aiohttp.ClientSession) -> web.StreamResponse:
        assert request.transport is not None
        self._open.add(request.transport)
        fault = self.decide(request)
        if fault is not None:
            self.injected[fault.name] += 1
            if not fault.lost:
                return self._fail(request, fault)
        body = await request.read()
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        url = f"{self._server.server}{request.raw_path}"
        timeout = aiohttp.ClientTimeout(total=None)
        async with client.request(request.method, url, headers=headers, data=body or None, timeout=timeout) as answer:
            if fault is not None:
                return self._fail(request, RESET)
            if request.method in WRITES:
                self.told()
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            return response

    @staticmethod
    def _fail(request: web.Request, fault: Fault) -> web.StreamResponse:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Injected"}
        if fault.event is not None:
            event = {"type": "ERROR", "object": {**status, "code": fault.event}}
            return web.Response(text=json.dumps(event) + "\n", content_type="application/json")
        if fault.status is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()  # nobody gets it
        seconds = fault.retry_after_seconds
        headers = {} if seconds is None else {"Retry-After": str(seconds)}
        return web.json_response({**status, "code": fault.status}, status=fault.status, headers=headers)


def is_watch(request: web.Request) -> bool:
    """Whether a request is a watch."""
    return request.query.get("watch") in ("true", "1")
