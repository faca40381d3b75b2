"""Connections of a site: one bounded TLS listener, and dialled connections that are reused while they live."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from eth_utils.address import to_canonical_address

from covey_exchange.background import Background
from covey_exchange.connection import Connection
from covey_exchange.egress import TokenBucket
from covey_exchange.envelope import Peer
from covey_exchange.errors import PeerRefused, PeerUnreachable, ProtocolViolation, Refusal, UnknownPeer
from covey_exchange.limits import Limits
from covey_exchange.proto.wire_pb2 import Frame, Hello
from covey_exchange.stream import TlsStream, connect
from covey_exchange.tls import TlsFiles, Trust, refusal_of
from covey_exchange.traffic import STRANGER, Traffic

PROTOCOL = 2
_log = logging.getLogger(__name__)

Serve = Callable[[Connection], Awaitable[None]]


def host_and_port(endpoint: str) -> tuple[str, int]:
    """Split "host:port" or "[v6]:port".

    Raises:
        ValueError: no host or no port.
    """
    parts = urlsplit(f"//{endpoint}")
    if not parts.hostname or parts.port is None:
        raise ValueError(f'endpoint "{endpoint}" is not host:port')
    return parts.hostname, parts.port


class Transport:
    """Accepts and opens connections to the other participants of one task; knows nothing of what they are for."""

    def __init__(
        self,
        task_id: bytes,
        site: str,
        files: TlsFiles,
        listen: str,
        limits: Limits,
        egress: TokenBucket,
        traffic: Traffic,
        serve: Serve,
    ) -> None:
        """`serve` is awaited with each accepted connection, which is closed when it returns."""
        self._hello = Frame(hello=Hello(protocol=PROTOCOL, task_id=task_id, site=to_canonical_address(site)))
        self._files = files
        self._listen = host_and_port(listen)
        self._limits = limits
        self._egress = egress
        self._traffic = traffic
        self._serve = serve
        self._peers: dict[str, Peer] = {}
        self._trust = Trust(files, ())
        self._background = Background()
        self._welcomes = 0
        self._accepted: dict[str, set[Connection]] = defaultdict(set)
        self._dialled: Counter[str] = Counter()
        self._idle: dict[str, list[Connection]] = defaultdict(list)
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._socket is not None, "not started"
        return int(self._socket.getsockname()[1])

    def set_peers(self, peers: Iterable[Peer]) -> None:
        """Replace the participants to talk to; all connections are ended, so that changed keys count at once."""
        self._peers = {peer.address: peer for peer in peers}
        self._trust = Trust(self._files, self._peers.values())
        for accepted in self._accepted.values():
            for connection in accepted:
                connection.abort()
        for idle in self._idle.values():
            for connection in idle:
                self._background.start(connection.close(), "close connection")
        self._idle.clear()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be bound.
        """
        family = socket.AF_INET6 if ":" in self._listen[0] else socket.AF_INET
        self._socket = socket.create_server(self._listen, family=family, backlog=self._limits.handshakes)
        self._socket.setblocking(False)
        self._background.start(self._accept(self._socket), "accept connections")

    async def close(self) -> None:
        """Stop listening and end all connections."""
        for connections in list(self._idle.values()):
            for connection in connections:
                await connection.close()
        self._idle.clear()
        await self._background.close()
        if self._socket is not None:
            self._socket.close()

    async def dial(self, site: str) -> Connection:
        """Open a connection to a participant; the caller closes it.

        Raises:
            UnknownPeer: no such participant.
            PeerUnreachable: no connection, or too many already.
            PeerRefused: it is not who it should be, or it refuses us; the reason is given and counted.
        """
        peer = self._peers.get(site)
        if peer is None:
            raise UnknownPeer(site)
        if self._dialled[site] >= self._limits.connections_per_peer:
            raise PeerUnreachable(site, f"{self._dialled[site]} connections are open already")
        self._dialled[site] += 1
        try:
            connection = await self._open(peer)
        except BaseException:
            self._dialled[site] -= 1
            raise
        connection.on_close(lambda: self._dialled.subtract([site]))
        return connection

    @asynccontextmanager
    async def borrow(self, site: str) -> AsyncIterator[Connection]:
        """A connection for one exchange of frames, kept for the next one unless the exchange failed.

        Raises:
            UnknownPeer, PeerUnreachable, PeerRefused: as `dial`.
        """
        idle = self._idle[site]
        while idle and not idle[-1].alive:
            await idle.pop().close()
        connection = idle.pop() if idle else await self.dial(site)
        try:
            yield connection
        except BaseException:
            await connection.close()
            raise
        if site in self._peers:
            self._idle[site].append(connection)
        else:
            await connection.close()

    async def _open(self, peer: Peer) -> Connection:
        site, limits = peer.address, self._limits
        try:
            host, port = host_and_port(peer.endpoint)
            async with asyncio.timeout(limits.connect_seconds):
                stream = await _secured(await connect(host, port), self._trust.client, server=False)
        except ssl.SSLError as error:
            refusal = refusal_of(error)
            self._traffic.refuse(site, refusal, f"at {peer.endpoint}")
            raise PeerRefused(site, f"at {peer.endpoint}: {refusal}") from error
        except (OSError, TimeoutError, ValueError) as error:
            raise PeerUnreachable(site, f"at {peer.endpoint}: {error or type(error).__name__}") from error
        connection = Connection(site, stream, self._traffic.of(site), self._egress, limits)
        try:
            found = self._identify(stream)
            if found != site:
                self._traffic.refuse(site, Refusal.WRONG_KEY, f"at {peer.endpoint} answers {found}")
                raise PeerRefused(site, f"at {peer.endpoint}: {Refusal.WRONG_KEY} ({found})")
            await connection.send(self._hello)
            answer = await connection.receive(limits.connect_seconds, limits.hello_bytes)
            if answer.WhichOneof("body") == "refused":
                raise PeerRefused(site, f"refuses us: {answer.refused.reason}")
            if answer != Frame(hello=self._hello_of(site)):
                raise PeerRefused(site, f"answers for {Refusal.WRONG_TASK} or {Refusal.WRONG_SITE}")
        except ProtocolViolation as error:
            self._traffic.refuse(site, error.refusal, str(error))
            await connection.close()
            raise PeerRefused(site, str(error)) from error
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:  # of the one connection (aborted), or of us (no descriptors left)
                _log.warning("cannot accept a connection: %s", error)
                await asyncio.sleep(self._limits.backoff_seconds_min)
                continue
            if self._welcomes >= self._limits.handshakes:
                self._traffic.refuse(STRANGER, Refusal.TOO_MANY_HANDSHAKES)
                accepted.close()
                continue
            self._welcomes += 1
            self._background.start(self._welcome(accepted), "serve a connection")

    async def _welcome(self, accepted: socket.socket) -> None:
        """TLS, pin and Hello within the handshake time; then serve."""
        connection = None
        try:
            try:
                async with asyncio.timeout(self._limits.handshake_seconds):
                    connection = await self._identified(accepted)
                    if connection is None or not await self._greet(connection):
                        return
            except TimeoutError:
                self._traffic.refuse(connection.site if connection else STRANGER, Refusal.HANDSHAKE_TIMEOUT)
                return
            finally:
                self._welcomes -= 1
            self._accepted[connection.site].add(connection)
            await self._serve(connection)
        finally:
            if connection is not None:
                self._accepted[connection.site].discard(connection)
                await connection.close()

    async def _identified(self, accepted: socket.socket) -> Connection | None:
        try:
            stream = await _secured(accepted, self._trust.server, server=True)
        except OSError as error:
            self._traffic.refuse(STRANGER, refusal_of(error), str(error))
            return None
        site = self._identify(stream)
        if site is None:
            self._traffic.refuse(STRANGER, Refusal.WRONG_KEY)
            await stream.close(0)
            return None
        return Connection(site, stream, self._traffic.of(site), self._egress, self._limits)

    async def _greet(self, connection: Connection) -> bool:
        """Answer the peer's Hello; False (with the reason sent) if it is not for us."""
        site = connection.site
        try:
            frame = await connection.expect("hello", self._limits.handshake_seconds, self._limits.hello_bytes)
            refusal = self._hello_problem(frame.hello, site)
            if refusal is not None:
                raise ProtocolViolation(site, refusal)
            await connection.send(self._hello)
        except ProtocolViolation as error:
            self._traffic.refuse(site, error.refusal, str(error))
            await connection.refuse(error.refusal)
            return False
        except PeerUnreachable as error:
            _log.info("%s", error)
            return False
        return True

    def _hello_problem(self, hello: Hello, site: str) -> Refusal | None:
        expected = self._hello_of(site)
        if hello.protocol != expected.protocol:
            return Refusal.WRONG_PROTOCOL
        if hello.task_id != expected.task_id:
            return Refusal.WRONG_TASK
        if hello.site != expected.site:
            return Refusal.WRONG_SITE
        if len(self._accepted[site]) >= self._limits.connections_per_peer:
            return Refusal.TOO_MANY_CONNECTIONS
        return None

    def _hello_of(self, site: str) -> Hello:
        return Hello(protocol=PROTOCOL, task_id=self._hello.hello.task_id, site=to_canonical_address(site))

    def _identify(self, stream: TlsStream) -> str | None:
        """The participant on the other side, by the key of its certificate."""
        certificate = stream.certificate
        if certificate is None:
            return None
        with suppress(ValueError):
            return self._trust.site_of(certificate)
        return None


async def _secured(connected: socket.socket, context: ssl.SSLContext, *, server: bool) -> TlsStream:
    """TLS on a connected socket, which is closed if there is none to be had."""
    stream = TlsStream(connected, context, server=server)
    try:
        await stream.handshake()
    except BaseException:
        await stream.close(0)
        raise
    return stream
