"""Real exchanges on loopback, all in this process: what the simulation is held to, and where its CPU costs come from.

A delay, if there is one, comes from a relay in front of each site; it knows no slow start.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from covey_chain.signing import Domain, address_of, new_key
from covey_chain.types import UpdateHeader, Vote
from covey_exchange.egress import steady
from covey_exchange.envelope import Message, Peer, Roster, SiteUpdate
from covey_exchange.exchange import Exchange
from covey_exchange.messages import Envelope
from covey_exchange.segments import payload_root
from covey_exchange.tls import TlsFiles, key_hash
from covey_operator import keys
from covey_operator.plan.storage import TLS_CERT, TLS_KEY

DOMAIN, TASK = Domain(31337, "0x" + "c0" * 20), bytes(32)
SETTLE_SECONDS = 0.5  # copies that nobody needs any more are still on their way then


@dataclass(frozen=True)
class Measured:
    """What some exchanges took together.

    Attributes:
        seconds: until the last one had all.
        cpu_seconds: of all of them.
        bytes_sent: by each; frames with their lengths.
    """

    seconds: float
    cpu_seconds: float
    bytes_sent: list[int]


@dataclass(frozen=True)
class _Member:
    peer: Peer
    session_key: bytes
    files: TlsFiles
    listen: str


_Running = tuple[_Member, Exchange]


def send_updates(
    count: int, update_bytes: int, *, bits_per_second: float | None = None, one_way_seconds: float = 0.0
) -> Measured:
    """Every one of `count` sites gets the updates of all others over the ring."""
    return asyncio.run(_send_updates(count, update_bytes, bits_per_second, one_way_seconds))


def send_votes(count: int, votes: int) -> Measured:
    """Every one of `count` sites broadcasts so many votes, and hears those of all others."""
    return asyncio.run(_send_votes(count, votes))


async def _send_updates(count: int, length: int, rate: float | None, delay: float) -> Measured:
    async with _running(count, length, rate, delay) as sites:
        arrivals = [exchange.messages() for _, exchange in sites]
        await _exchange_updates(sites, arrivals, length, 1)  # makes the connections
        return await _exchange_updates(sites, arrivals, length, 2)


async def _exchange_updates(
    sites: list[_Running], arrivals: list[AsyncIterator[Message | SiteUpdate]], length: int, round_number: int
) -> Measured:
    offers = []
    for member, _ in sites:
        payload = os.urandom(length)
        root, owner = payload_root(payload), member.peer.address
        header = UpdateHeader(TASK, round_number, 0, owner, bytes(32), bytes(32), length, root, 1)
        offers.append((_seal(member, header), payload))

    async def receive(items: AsyncIterator[Message | SiteUpdate]) -> None:
        missing = len(sites) - 1
        while missing:
            missing -= isinstance(await anext(items), SiteUpdate)

    with _Watch(sites) as watch:
        for (_, exchange), (envelope, payload) in zip(sites, offers, strict=True):
            exchange.offer(envelope, payload)
        await asyncio.gather(*(receive(items) for items in arrivals))
        watch.stop()
        await asyncio.sleep(SETTLE_SECONDS)
    return watch.measured()


async def _send_votes(count: int, votes: int) -> Measured:
    async with _running(count, 1, None, 0.0) as sites:
        said = [
            [_seal(member, Vote(TASK, 1, 0, view, 1, bytes(32), member.peer.address)) for view in range(votes)]
            for member, _ in sites
        ]

        async def receive(exchange: Exchange) -> None:
            missing = votes * (count - 1)
            async for _ in exchange.messages():
                missing -= 1
                if not missing:
                    return

        with _Watch(sites) as watch:
            for (_, exchange), envelopes in zip(sites, said, strict=True):
                for envelope in envelopes:
                    exchange.broadcast(envelope)
            await asyncio.gather(*(receive(exchange) for _, exchange in sites))
            await asyncio.sleep(SETTLE_SECONDS)
            watch.stop()
        return watch.measured()


class _Watch:
    """Time, CPU time and bytes between entering and leaving; the time ends at `stop`."""

    def __init__(self, sites: list[_Running]) -> None:
        self._exchanges = [exchange for _, exchange in sites]

    def __enter__(self) -> _Watch:
        self._before = self._sent()
        self._cpu, self._began = time.process_time(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes = [after - before for after, before in zip(self._sent(), self._before, strict=True)]

    def stop(self) -> None:
        self._seconds, self._used = time.monotonic() - self._began, time.process_time() - self._cpu

    def measured(self) -> Measured:
        return Measured(self._seconds, self._used, self._bytes)

    def _sent(self) -> list[int]:
        return [sum(peer.bytes_sent for peer in exchange.traffic.peers.values()) for exchange in self._exchanges]


def _seal(member: _Member, body: UpdateHeader | Vote) -> Envelope:
    return Roster(DOMAIN, TASK, [member.peer]).seal(body, member.session_key)


@asynccontextmanager
async def _running(count: int, length: int, rate: float | None, delay: float) -> AsyncIterator[list[_Running]]:
    """Exchanges that are connected to each other, in ring order."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        relays = [await stack.enter_async_context(_relay(delay)) for _ in range(count)] if delay else []
        ports = [relay.port for relay in relays] or [_free_port() for _ in range(count)]
        owners = sorted((address_of(new_key()) for _ in range(count)), key=str.lower)
        members = [_member(folder, owner, port, bool(delay)) for owner, port in zip(owners, ports, strict=True)]
        sites = []
        for index, member in enumerate(members):
            exchange = Exchange(
                domain=DOMAIN, task_id=TASK, site=member.peer.address, peers=[m.peer for m in members],
                tls=member.files, listen=member.listen, max_update_bytes=length, egress=steady(rate),
            )  # fmt: skip
            await exchange.start()
            stack.push_async_callback(exchange.close)
            if relays:
                relays[index].target = exchange.port
            sites.append((member, exchange))
        for _, exchange in sites:
            await exchange.until_connected(count - 1)
        yield sites


def _member(folder: Path, owner: str, port: int, relayed: bool) -> _Member:
    secret = keys.new_tls("covey", datetime.now(UTC))
    files = TlsFiles(folder / f"{owner}.key", folder / f"{owner}.crt")
    files.key.write_bytes(base64.b64decode(secret[TLS_KEY]))
    files.certificate.write_bytes(base64.b64decode(secret[TLS_CERT]))
    der = keys.read_tls({"data": secret}).certificate
    session_key = new_key()
    peer = Peer(owner, address_of(session_key), f"127.0.0.1:{port}", key_hash(der), der)
    return _Member(peer, session_key, files, f"127.0.0.1:{0 if relayed else port}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class _Relay:
    """A port whose bytes arrive at another one later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self.port = self.target = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # not up yet, or closed already
            writer.close()
            return
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        underway: deque[tuple[float, bytes]] = deque()
        arrival = asyncio.Event()

        async def deliver() -> None:
            while True:
                while not underway:
                    arrival.clear()
                    await arrival.wait()
                due, data = underway.popleft()
                if (wait := due - clock()) > 0:
                    await asyncio.sleep(wait)
                if not data:
                    return
                sink.write(data)
                await sink.drain()

        delivering = asyncio.create_task(deliver())
        data = b"-"
        with suppress(OSError):
            while data:
                data = await source.read(2**16)
                underway.append((clock() + self._delay, data))
                arrival.set()
            await delivering
        delivering.cancel()
        sink.close()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()


@asynccontextmanager
async def _relay(delay: float) -> AsyncIterator[_Relay]:
    relay = _Relay(delay)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        relay.stop()
