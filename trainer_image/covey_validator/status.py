"""HTTP for people and machines: /status as JSON, /metrics for Prometheus, /healthz for the kubelet."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from covey_exchange.transport import host_and_port
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from covey_validator.progress import Progress

BEAT_SECONDS = 1.0
LATE_SECONDS = 15.0  # without a beat the event loop hangs
ROUND_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400)


def as_json(progress: Progress) -> dict[str, Any]:
    """The document of /status; amounts in base units as strings, JSON numbers lose digits beyond 2**53."""
    return {
        "task": progress.task,
        "round": progress.round,
        "rounds": progress.rounds,
        "phase": progress.phase,
        "message": "; ".join(part for part in (progress.message, progress.note) if part),
        "suspended": progress.suspended,
        "loss": progress.loss,
        "metrics": progress.metrics,
        "bytesSent": progress.bytes_sent,
        "rawBytes": progress.raw_bytes,
        "payloadBytes": progress.payload_bytes,
        "compressionRatio": progress.compression_ratio,
        "egressBitsPerSecond": progress.egress_bits_per_second,
        "peersConnected": progress.peers_connected,
        "peers": progress.peers,
        "etaSeconds": progress.eta_seconds,
        "reward": str(progress.reward),
        "standing": progress.standing.as_json() if progress.standing else None,
        "modelDigest": "0x" + progress.model_digest.hex() if progress.model_digest else None,
        "transactions": [{"purpose": purpose, "hash": tx_hash} for purpose, tx_hash in progress.transactions],
    }


class Metrics:
    """Prometheus metrics, brought up to date on each scrape."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._observed = 0
        self._counted = 0
        self._registry = CollectorRegistry()

        def gauge(name: str, text: str) -> Gauge:
            metric = Gauge(f"covey_validator_{name}", text, ["task"], registry=self._registry)
            return metric.labels(progress.task)

        self._round = gauge("round", "Rounds that are certified.")
        self._rounds = gauge("rounds", "Rounds of the task.")
        self._loss = gauge("loss", "Median holdout loss of the newest model.")
        self._ratio = gauge("compression_ratio", "float32 bytes of the updates by their bytes as sent.")
        self._connected = gauge("peers_connected", "Other participants that this one is connected with.")
        self._suspended = gauge("suspended_sites", "Participants whose stake does not count until they return.")
        self._reward = gauge("reward_tokens", "Reward of this member until now, in whole tokens.")
        self._held = gauge("stake_held_ratio", "Part of this member's stake that is held for quality.")
        self._slashed = gauge("stake_slashed_ratio", "Part of this member's stake that was slashed for quality.")
        self._removed = gauge("removed", "1 if this member was removed from the task for quality.")
        self._last_seconds = gauge("round_seconds", "How long the last round took.")
        self._egress = Gauge(
            "covey_egress_limit_bits_per_second",
            "Upper limit of outgoing exchange traffic now; +Inf for none.",
            ["task"],
            registry=self._registry,
        ).labels(progress.task)
        self._bytes = Counter(
            "covey_validator_bytes_sent", "Exchange bytes sent, framing included.", ["task"], registry=self._registry
        ).labels(progress.task)
        self._seconds = Histogram(
            "covey_validator_round_duration_seconds",
            "How long rounds take.",
            ["task"],
            buckets=ROUND_BUCKETS,
            registry=self._registry,
        ).labels(progress.task)

    def render(self) -> bytes:
        """The text format of Prometheus."""
        progress = self._progress
        self._round.set(progress.round)
        self._rounds.set(progress.rounds)
        if progress.loss is not None:
            self._loss.set(progress.loss)
        self._ratio.set(progress.compression_ratio or 0)
        self._connected.set(progress.peers_connected)
        self._suspended.set(len(progress.suspended))
        self._reward.set(progress.reward / 10**progress.token_decimals)
        if progress.standing is not None:
            self._held.set(progress.standing.held / progress.standing.stake)
            self._slashed.set(progress.standing.slashed / progress.standing.stake)
            self._removed.set(progress.standing.removed)
        limit = progress.egress_bits_per_second
        self._egress.set(math.inf if limit is None else limit)
        self._bytes.inc(progress.bytes_sent - self._counted)
        self._counted = progress.bytes_sent
        for seconds in progress.round_seconds[self._observed :]:
            self._seconds.observe(seconds)
            self._last_seconds.set(seconds)
        self._observed = len(progress.round_seconds)
        return generate_latest(self._registry)


class Heartbeat:
    """Tells whether the event loop makes progress."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()

    async def run(self) -> None:
        """Beat for ever."""
        while True:
            self._last = self._clock()
            await asyncio.sleep(BEAT_SECONDS)

    @property
    def is_late(self) -> bool:
        """Whether the last beat is too long ago."""
        return self._clock() - self._last > LATE_SECONDS


@asynccontextmanager
async def serve(progress: Progress, listen: str, refresh: Callable[[], None]) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port.

    Args:
        progress: what to show.
        listen: host:port; port 0 for any free one.
        refresh: brings traffic figures up to date before each answer.

    Raises:
        OSError: the address cannot be bound.
    """
    metrics, heartbeat = Metrics(progress), Heartbeat()

    async def status(_request: web.Request) -> web.Response:
        refresh()
        return web.json_response(as_json(progress))

    async def scrape(_request: web.Request) -> web.Response:
        refresh()
        return web.Response(body=metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(_request: web.Request) -> web.Response:
        late = heartbeat.is_late
        return web.Response(text="the event loop hangs\n" if late else "ok\n", status=503 if late else 200)

    application = web.Application()
    application.add_routes([web.get("/status", status), web.get("/metrics", scrape), web.get("/healthz", health)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    host, port = host_and_port(listen)
    site = web.TCPSite(runner, host, port)
    await site.start()
    beating = asyncio.create_task(heartbeat.run(), name="heartbeat")
    try:
        yield int(runner.addresses[0][1])
    finally:
        beating.cancel()
        await runner.cleanup()
