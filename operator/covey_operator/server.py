"""HTTP for Prometheus and for the kubelet: /metrics, /healthz, /readyz."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from covey_operator.controller import Pulse
from covey_operator.metrics import Metrics


@asynccontextmanager
async def serve(port: int, metrics: Metrics, pulse: Pulse, leading: Callable[[], bool]) -> AsyncIterator[int]:
    """Serve until the block ends; yields the port (of interest when 0 was asked for).

    A standby is ready once it could begin at once, a leader once it has listed its objects and while it makes progress.
    """
    # With a thousand tasks a scrape takes a third of a second: passes go on meanwhile. Each thread keeps memory: one.
    scribe = ThreadPoolExecutor(1, "metrics")

    async def show_metrics(_: web.Request) -> web.Response:
        body = await asyncio.get_running_loop().run_in_executor(scribe, generate_latest, metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return _answer(pulse.alive, "objects were not listed, a chain not looked at, or no pass ended, for too long")

    async def readyz(_: web.Request) -> web.Response:
        ready = pulse.synced and pulse.alive if leading() else pulse.warm
        return _answer(ready, "objects were not listed yet, or the chains not read")

    app = web.Application()
    app.add_routes([web.get("/metrics", show_metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "0.0.0.0", port)  # noqa: S104 (the kubelet and Prometheus come from outside)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
        scribe.shutdown()


def _answer(good: bool, complaint: str) -> web.Response:
    return web.Response(text="ok\n") if good else web.Response(status=503, text=complaint + "\n")
