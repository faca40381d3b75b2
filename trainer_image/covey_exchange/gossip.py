"""Signed messages to everybody: kept while their round lasts, sent on to every peer, sent again to one that comes back.

A message that is new to a site goes on to all others (flooding), so that it reaches everyone whom anyone reaches.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from covey_chain.types import round_of

from covey_exchange.background import Background
from covey_exchange.connection import Connection
from covey_exchange.envelope import Message, Peer
from covey_exchange.errors import MessageRefused, PeerRefused, PeerUnreachable, ProtocolViolation, Refusal
from covey_exchange.limits import Limits
from covey_exchange.messages import Envelope, to_wire
from covey_exchange.proto.wire_pb2 import Frame, Ping
from covey_exchange.traffic import Traffic
from covey_exchange.transport import Transport

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    message: Message
    source: str | None  # the peer that brought it; None for our own


class MessageLog:
    """Messages of the rounds that are not over, in order of arrival, each once."""

    def __init__(self, limit_per_site: int) -> None:
        self._limit = limit_per_site
        self._entries: dict[int, _Entry] = {}
        self._known: set[bytes] = set()
        self._envelopes: set[Envelope] = set()
        self._count: Counter[str] = Counter()
        self._next = 0
        self._first_round = 0
        self._appended = asyncio.Event()

    @property
    def end(self) -> int:
        """Number that the next message will get."""
        return self._next

    def __contains__(self, envelope: Envelope) -> bool:
        """Whether exactly this message is kept: a cheap look before its signature is checked."""
        return envelope in self._envelopes

    def append(self, message: Message, source: str | None) -> bool:
        """Keep a message; False if it is known or its round is over.

        Raises:
            MessageRefused: there are too many of its site.
        """
        if message.identity in self._known or self._over(message):
            return False
        if self._count[message.site] >= self._limit:
            raise MessageRefused(message.site, Refusal.FLOOD, f"{self._limit} are kept")
        self._entries[self._next] = _Entry(message, source)
        self._known.add(message.identity)
        self._envelopes.add(message.envelope)
        self._count[message.site] += 1
        self._next += 1
        self._appended.set()
        self._appended = asyncio.Event()
        return True

    def since(self, number: int) -> list[tuple[int, _Entry]]:
        """Numbered messages from `number` on."""
        return [(n, self._entries[n]) for n in range(number, self._next) if n in self._entries]

    async def grown(self, number: int) -> None:
        """Wait until there is a message with this number."""
        while self._next <= number:
            await self._appended.wait()

    def prune(self, before_round: int) -> None:
        """Forget the messages of earlier rounds, and take no more of them."""
        self._first_round = max(self._first_round, before_round)
        for number, entry in list(self._entries.items()):
            if self._over(entry.message):
                del self._entries[number]
                self._known.discard(entry.message.identity)
                self._envelopes.discard(entry.message.envelope)
                self._count[entry.message.site] -= 1

    def _over(self, message: Message) -> bool:
        about = round_of(message.body)
        return about is not None and about < self._first_round


class Gossip:
    """One outgoing control connection to every peer, kept alive and fed from the log."""

    def __init__(self, transport: Transport, log: MessageLog, limits: Limits, traffic: Traffic) -> None:
        self._transport = transport
        self._log = log
        self._limits = limits
        self._traffic = traffic
        self._background = Background()
        self._links: dict[Peer, asyncio.Task[None]] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._down: set[str] = set()
        self.connected: set[str] = set()
        self._change = asyncio.Event()

    def is_down(self, site: str) -> bool:
        """True if the last attempt to reach the peer failed."""
        return site in self._down

    def set_peers(self, peers: Iterable[Peer]) -> None:
        """Keep links to exactly these peers; one whose keys or endpoint changed gets a new link."""
        wanted = set(peers)
        for peer in self._links.keys() - wanted:
            self._links.pop(peer).cancel()
            self._mark(peer.address, connected=False, down=False)
        for peer in wanted - self._links.keys():
            self._wake[peer.address] = asyncio.Event()
            self._links[peer] = self._background.start(self._keep_link(peer.address), f"link to {peer.address}")

    def nudge(self, site: str) -> None:
        """The peer has just reached us: do not wait to reach it."""
        if site in self._wake:
            self._wake[site].set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on `connected` holds."""
        while not condition():
            await self._change.wait()

    async def close(self) -> None:
        """End all links."""
        await self._background.close()

    async def _keep_link(self, site: str) -> None:
        pause, attempts = self._limits.backoff_seconds_min, 0
        while True:
            self._wake[site].clear()
            started = asyncio.get_running_loop().time()
            try:
                connection = await self._transport.dial(site)
                self._mark(site, connected=True, down=False)
                self._traffic.of(site).reconnects += attempts > 0
                attempts += 1
                try:
                    await self._feed(connection)
                finally:
                    await connection.close()
            except (PeerUnreachable, PeerRefused, ProtocolViolation) as problem:
                _log.info("no control link: %s", problem)
            self._mark(site, connected=False, down=True)
            if asyncio.get_running_loop().time() - started > self._limits.backoff_seconds_max:
                pause = self._limits.backoff_seconds_min
            try:
                async with asyncio.timeout(pause * random.uniform(0.5, 1)):  # noqa: S311 (spreads load, no secret)
                    await self._wake[site].wait()
                pause = self._limits.backoff_seconds_min
            except TimeoutError:
                pause = min(2 * pause, self._limits.backoff_seconds_max)

    async def _feed(self, connection: Connection) -> None:
        """Send all messages, then each new one, until the connection ends; raises why it ended."""
        watch = asyncio.create_task(self._watch(connection), name=f"watch {connection.site}")
        send = asyncio.create_task(self._send(connection), name=f"send to {connection.site}")
        try:
            done, _ = await asyncio.wait((watch, send), return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in (watch, send):
                task.cancel()
            await asyncio.gather(watch, send, return_exceptions=True)

    async def _send(self, connection: Connection) -> None:
        clock = asyncio.get_running_loop().time
        at_connect, cursor, ping_at = self._log.end, 0, clock() + self._limits.ping_seconds
        while True:
            unsent, cursor = self._log.since(cursor), self._log.end
            for number, entry in unsent:
                if number < at_connect or entry.source != connection.site:
                    await connection.send(Frame(signed=to_wire(entry.message.envelope)))
            # However much is said: messages are not answered, so only pings show that the peer is alive.
            if clock() >= ping_at:
                await connection.send(Frame(ping=Ping()))
                ping_at = clock() + self._limits.ping_seconds
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ping_at):
                    await self._log.grown(cursor)

    async def _watch(self, connection: Connection) -> None:
        while True:
            await connection.expect("pong", 3 * self._limits.ping_seconds, self._limits.hello_bytes)

    def _mark(self, site: str, *, connected: bool, down: bool) -> None:
        (self.connected.add if connected else self.connected.discard)(site)
        (self._down.add if down else self._down.discard)(site)
        self._change.set()
        self._change = asyncio.Event()
