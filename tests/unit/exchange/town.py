"""Real sites on loopback: own wallets, session keys, certificates and sockets."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from covey_chain.anvil import free_port
from covey_chain.signing import Domain, address_of, new_key
from covey_chain.types import Signable, UpdateHeader
from covey_exchange.envelope import Message, Peer, Roster, SiteUpdate
from covey_exchange.errors import Refusal
from covey_exchange.exchange import Exchange
from covey_exchange.limits import Limits
from covey_exchange.messages import Envelope
from covey_exchange.segments import payload_root
from covey_exchange.tls import TlsFiles, key_hash
from covey_operator import keys
from covey_operator.plan.storage import TLS_CERT, TLS_KEY

DOMAIN = Domain(31337, "0x" + "c0" * 20)
TASK = hashlib.sha256(b"task").digest()
MAX_UPDATE_BYTES = 2**26

# As in production, but impatient: nothing waits longer on loopback than it must.
QUICK = Limits(
    connect_seconds=5,
    handshake_seconds=1,
    stall_seconds=5,
    ping_seconds=1,
    backoff_seconds_min=0.02,
    backoff_seconds_max=0.2,
    repair_seconds=0.3,
)


def make_certificate(directory: Path, name: str, made: datetime | None = None) -> tuple[TlsFiles, bytes]:
    """The operator's own kind of certificate, made now or at another time; all with the same subject."""
    secret = {"data": keys.new_tls("covey", made or datetime.now(UTC))}
    files = TlsFiles(directory / f"{name}.key", directory / f"{name}.crt")
    files.key.write_bytes(keys.read_entry(secret, TLS_KEY))
    files.certificate.write_bytes(keys.read_entry(secret, TLS_CERT))
    return files, keys.read_tls(secret).certificate


@dataclass
class Site:
    """A participant with all its secrets."""

    peer: Peer
    session_key: bytes
    files: TlsFiles

    @classmethod
    def make(cls, directory: Path, name: str) -> Site:
        files, certificate = make_certificate(directory, name)
        session_key = new_key()
        endpoint = f"127.0.0.1:{free_port()}"
        owner = address_of(new_key())
        peer = Peer(owner, address_of(session_key), endpoint, key_hash(certificate), certificate)
        return cls(peer, session_key, files)

    @property
    def address(self) -> str:
        return self.peer.address

    def seal(self, body: Signable, attachment: bytes = b"") -> Envelope:
        return Roster(DOMAIN, TASK, [self.peer]).seal(body, self.session_key, attachment)

    def header(self, payload: bytes, round_: int = 1, attempt: int = 0) -> Envelope:
        root = payload_root(payload)
        body = UpdateHeader(
            TASK, round_, attempt, self.address, bytes(32), hashlib.sha256().digest(), len(payload), root, 100
        )
        return self.seal(body)


class Inbox:
    """What an exchange has delivered, with a way to wait for more."""

    def __init__(self, exchange: Exchange) -> None:
        self._arrivals = exchange.messages()
        self.seen: list[Message | SiteUpdate] = []

    async def until(self, condition: Callable[[list[Message | SiteUpdate]], bool]) -> list[Message | SiteUpdate]:
        async with asyncio.timeout(30):
            while not condition(self.seen):
                self.seen.append(await anext(self._arrivals))
        return self.seen

    async def updates(self, count: int) -> dict[str, bytes]:
        """Payloads by site, once there are `count`."""
        await self.until(lambda seen: sum(isinstance(item, SiteUpdate) for item in seen) >= count)
        return {item.site: item.payload for item in self.seen if isinstance(item, SiteUpdate)}

    async def message(self, body: Signable) -> Message:
        """The message with this body."""
        seen = await self.until(lambda seen: any(isinstance(i, Message) and i.body == body for i in seen))
        return next(item for item in seen if isinstance(item, Message) and item.body == body)


class Town:
    """Some sites, and the exchanges that run."""

    def __init__(self, sites: list[Site], stack: AsyncExitStack) -> None:
        self.sites = sites
        self._stack = stack

    @property
    def peers(self) -> list[Peer]:
        return [site.peer for site in self.sites]

    def exchange(self, site: Site, peers: list[Peer] | None = None, limits: Limits = QUICK, **more: Any) -> Exchange:
        return Exchange(
            domain=DOMAIN,
            task_id=TASK,
            site=site.address,
            peers=self.peers if peers is None else peers,
            tls=site.files,
            listen=site.peer.endpoint,
            max_update_bytes=MAX_UPDATE_BYTES,
            limits=limits,
            **more,
        )

    async def run(self, site: Site, peers: list[Peer] | None = None, limits: Limits = QUICK, **more: Any) -> Exchange:
        exchange = self.exchange(site, peers, limits, **more)
        await exchange.start()
        self._stack.push_async_callback(exchange.close)
        return exchange

    async def run_all(self) -> list[Exchange]:
        exchanges = [await self.run(site) for site in self.sites]
        async with asyncio.timeout(30):
            for exchange in exchanges:
                await exchange.until_connected(len(self.sites) - 1)
        return exchanges


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Callable[[int], Town]]:
    """Makes a town of so many sites, in ring order; its exchanges are closed, and none may leave a task behind."""
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:

        def make(count: int) -> Town:
            sites = sorted((Site.make(tmp_path, f"site{i}") for i in range(count)), key=lambda s: s.address.lower())
            return Town(sites, stack)

        yield make
    left = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not task.done()}
    assert not left, f"tasks outlive their exchange: {left}"


def with_endpoint(peer: Peer, endpoint: str) -> Peer:
    return replace(peer, endpoint=endpoint)


class _Ring(logging.Handler):
    """Rings a bell at each record."""

    def __init__(self) -> None:
        super().__init__()
        self.bell = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.bell.set()


async def counted(exchange: Exchange, site: str, refusal: Refusal) -> None:
    """Wait until a refusal has been counted; each one is logged."""
    handler = _Ring()
    logger = logging.getLogger("covey_exchange.traffic")
    logger.addHandler(handler)
    try:
        async with asyncio.timeout(30):
            while not exchange.traffic.of(site).refused[refusal]:
                await handler.bell.wait()
                handler.bell.clear()
    finally:
        logger.removeHandler(handler)
