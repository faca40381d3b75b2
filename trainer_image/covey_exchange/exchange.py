"""The exchange of one site for one task: signed messages, updates on the ring, and questions to peers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from covey_chain.signing import Domain
from covey_chain.types import UpdateHeader

from covey_exchange import segments
from covey_exchange.connection import Connection
from covey_exchange.egress import Schedule, TokenBucket, steady
from covey_exchange.envelope import Message, Peer, Roster, SiteUpdate
from covey_exchange.errors import (
    MessageRefused,
    PeerRefused,
    PeerUnreachable,
    ProtocolViolation,
    Refusal,
    ScratchFailed,
)
from covey_exchange.gossip import Gossip, MessageLog
from covey_exchange.limits import Limits
from covey_exchange.messages import Envelope, from_wire
from covey_exchange.payload import Payload, to_leaves
from covey_exchange.proto.wire_pb2 import Frame, Leaves, Pong, Signed
from covey_exchange.requests import Handler, Requests
from covey_exchange.ring import Ring
from covey_exchange.scratch import Scratch
from covey_exchange.tls import TlsFiles
from covey_exchange.traffic import Traffic
from covey_exchange.transport import Transport

_log = logging.getLogger(__name__)


class Exchange:
    """Everything that a site says to, and hears from, the other participants of one task.

    Attributes:
        roster: the participants; verifies and seals messages.
        traffic: bytes, reconnects and refusals by peer.
    """

    def __init__(
        self,
        *,
        domain: Domain,
        task_id: bytes,
        site: str,
        peers: Iterable[Peer],
        tls: TlsFiles,
        listen: str,
        max_update_bytes: int,
        egress: Schedule | None = None,
        limits: Limits | None = None,
        scratch: Path | None = None,
    ) -> None:
        """Nothing happens before `start`.

        Args:
            domain: EIP-712 domain of the contracts.
            task_id: 32 bytes.
            site: own owner address.
            peers: all participants, oneself included.
            tls: own key and certificate.
            listen: "host:port"; port 0 for any free one.
            max_update_bytes: length that no update may exceed (`codec.max_bytes`).
            egress: cap on what is sent, which may change with time; None for none.
            limits: bounds on time, size and number.
            scratch: folder for what is longer than 1 MiB while it is here; the system's for temporary files if None.

        Raises:
            ValueError: `site` is none of `peers`, or `listen` is malformed.
        """
        self._limits = limits or Limits()
        self._site = site
        self._inbox: asyncio.Queue[Message | SiteUpdate] = asyncio.Queue()
        self.roster = Roster(domain, task_id, peers)
        self.traffic = Traffic(address for address in self.roster.peers if address != site)
        self._transport = Transport(
            task_id, site, tls, listen, self._limits, TokenBucket(egress or steady(None)), self.traffic, self._serve
        )
        self._messages = MessageLog(self._limits.messages_per_site)
        self._gossip = Gossip(self._transport, self._messages, self._limits, self.traffic)
        room = Scratch(scratch)
        self._requests = Requests(self._transport, self.traffic, room)
        self._ring = Ring(
            site,
            self._transport,
            self._gossip,
            self._limits,
            self.traffic,
            max_update_bytes,
            room,
            self._admit,
            self._inbox.put_nowait,
        )
        self._check_membership()

    async def start(self) -> None:
        """Listen, and begin to reach the peers.

        Raises:
            OSError: the address cannot be bound.
        """
        await self._transport.start()
        self.set_peers(self.roster.peers.values())

    async def close(self) -> None:
        """End all connections and tasks."""
        await self._ring.close()
        await self._gossip.close()
        await self._transport.close()

    def set_peers(self, peers: Iterable[Peer]) -> None:
        """Replace the participants, oneself included, after a rotation of keys or endpoints on chain.

        Connections are made anew, and all messages sent again.

        Raises:
            ValueError: oneself is not among them.
        """
        self.roster = Roster(self.roster.domain, self.roster.task_id, peers)
        self._check_membership()
        others = [peer for peer in self.roster.peers.values() if peer.address != self._site]
        self._transport.set_peers(others)
        self._ring.set_sites(peer.address for peer in others)
        self._gossip.set_peers(others)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._transport.port

    @property
    def connected(self) -> frozenset[str]:
        """Peers to which a control connection stands."""
        return frozenset(self._gossip.connected)

    async def until_connected(self, count: int) -> None:
        """Wait until control connections to at least `count` peers stand."""
        await self._gossip.until(lambda: len(self._gossip.connected) >= count)

    def broadcast(self, envelope: Envelope) -> Message:
        """Say something to everybody; also to those who come (back) later, until its round is pruned.

        Call it again after a restart: what peers know already costs nothing.

        Raises:
            MessageRefused: it is not by this site, or not valid.
        """
        message = self._own(envelope)
        self._messages.append(message, None)
        return message

    def relay(self, envelope: Envelope) -> Message:
        """Pass on what another site said and we have kept, as if it had just come; for after a restart.

        Raises:
            MessageRefused: it is not valid.
        """
        message = self.roster.verify(envelope)
        self._messages.append(message, None)
        return message

    def offer(self, envelope: Envelope, payload: bytes | memoryview, leaves: Sequence[bytes] | None = None) -> Message:
        """Broadcast the header of one's own update and put the update on the ring; again after a restart.

        Args:
            envelope: the signed header.
            payload: the update; not copied.
            leaves: `segments.leaves(payload)`, if that has been computed for the header; believed.

        Raises:
            MessageRefused: the header is not by this site, or not valid.
            ValueError: it is no UpdateHeader, or not that of the payload.
        """
        message = self._own(envelope)
        header = message.body
        if not isinstance(header, UpdateHeader):
            raise ValueError(f"a {type(header).__name__} is no header of an update")
        known = to_leaves(payload) if leaves is None else Leaves(length=len(payload), leaf=leaves)
        if header.length != known.length or header.root != segments.merkle_root(known.leaf):
            raise ValueError("the header has another length or root than the payload")
        self._ring.offer(message, header, Payload(known, data=payload))
        self._messages.append(message, None)
        return message

    async def messages(self) -> AsyncIterator[Message | SiteUpdate]:
        """Verified messages and whole updates of other sites as they arrive, each once, without end.

        What this site itself broadcast is not among them, except what it has forgotten in a restart and hears again.
        """
        while True:
            yield await self._inbox.get()

    async def fetch(self, digest: bytes) -> SiteUpdate:
        """An update by its digest (EIP-712 digest of its header), from here or from any participant that holds it.

        Raises:
            UpdateUnavailable: nobody reachable holds it; says what each one answered.
        """
        return await self._ring.fetch(digest)

    def serve(self, kind: str, handler: Handler) -> None:
        """Answer requests of a kind with `await handler(asking site, body)`; None means that there is no answer.

        Raises:
            ValueError: the kind is served already.
        """
        self._requests.serve(kind, handler)

    async def request(self, site: str, kind: str, body: bytes, *, limit_bytes: int, root: bytes | None = None) -> bytes:
        """Ask a peer, and get an answer of at most `limit_bytes`, every segment verified.

        Args:
            site: whom to ask.
            kind: which handler.
            body: the question; together with the kind it must fit in a frame (1 MiB).
            limit_bytes: longest acceptable answer; memory is taken for what the peer announces, up to this.
            root: Merkle root that the answer must have (`segments.payload_root`), if it is known.

        Raises:
            UnknownPeer: no other participant has this address.
            PeerUnreachable: no connection, or it broke.
            PeerRefused: the peer has no answer; its reason is given.
            ProtocolViolation: the answer is too long or contradicts its hashes.
        """
        return await self._requests.ask(site, kind, body, limit_bytes, root)

    def prune(self, before_round: int) -> None:
        """Forget messages and updates of earlier rounds, and take no more of them."""
        self._messages.prune(before_round)
        self._ring.prune(before_round)

    def _check_membership(self) -> None:
        if self._site not in self.roster.peers:
            raise ValueError(f"{self._site} is none of the participants")

    def _own(self, envelope: Envelope) -> Message:
        message = self.roster.verify(envelope)
        if message.site != self._site:
            raise MessageRefused(message.site, Refusal.WRONG_SIGNER, f"{self._site} speaks only for itself")
        return message

    def _admit(self, envelope: Envelope, source: str) -> Message:
        """Verify a message that a peer brought; keep, pass on and deliver it if it is new."""
        message = self.roster.verify(envelope)
        if self._messages.append(message, source):
            self._inbox.put_nowait(message)
            if isinstance(message.body, UpdateHeader):
                self._ring.announce(message, message.body)
        return message

    async def _serve(self, connection: Connection) -> None:
        """Answer one peer's frames until the connection ends."""
        self._gossip.nudge(connection.site)
        invalid = 0
        try:
            while True:
                frame = await connection.receive(self._limits.idle_seconds)
                match frame.WhichOneof("body"):
                    case "signed":
                        invalid += self._hear(frame.signed, connection.site)
                        if invalid > self._limits.invalid_per_connection:
                            raise ProtocolViolation(connection.site, Refusal.FLOOD, f"{invalid} invalid messages")
                    case "ping":
                        await connection.send(Frame(pong=Pong()))
                    case "offer":
                        await self._ring.receive(connection, frame.offer)
                    case "want":
                        await self._ring.give(connection, frame.want.digest)
                    case "request":
                        await self._requests.answer(connection, frame.request)
                    case other:
                        raise ProtocolViolation(connection.site, Refusal.OUT_OF_ORDER, f"{other} begins nothing")
        except ProtocolViolation as violation:
            self.traffic.refuse(violation.site, violation.refusal, str(violation))
            await connection.refuse(violation.refusal)
        except (PeerUnreachable, PeerRefused) as end:
            _log.debug("%s", end)
        except ScratchFailed as problem:
            _log.error("cannot keep what %s sends: %s", connection.site, problem)

    def _hear(self, signed: Signed, source: str) -> bool:
        """Take a gossiped message in; True if it had to be refused."""
        try:
            envelope = from_wire(signed)
            if envelope not in self._messages:
                self._admit(envelope, source)
        except MessageRefused as refused:
            self.traffic.refuse(source, refused.refusal, str(refused))
            return True
        return False
