"""Updates round the ring: all-gather of unmodified signed payloads.

Sites stand in the order of their owner addresses. Each hands every update that it has, or is just getting, to the next
site that it can reach, until the origin would be next. What the ring does not bring in time is fetched from whoever
holds it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from covey_chain.types import UpdateHeader
from google.protobuf.message import DecodeError

from covey_exchange import segments
from covey_exchange.background import Background
from covey_exchange.connection import Connection
from covey_exchange.envelope import Message, SiteUpdate
from covey_exchange.errors import (
    ExchangeError,
    MessageRefused,
    PeerRefused,
    PeerUnreachable,
    ProtocolViolation,
    Refusal,
    UpdateUnavailable,
)
from covey_exchange.gossip import Gossip
from covey_exchange.limits import Limits
from covey_exchange.messages import Envelope, from_wire, to_wire
from covey_exchange.payload import Payload, check_leaves, to_leaves
from covey_exchange.proto.wire_pb2 import Answer, Frame, Offer, Signed
from covey_exchange.requests import Requests
from covey_exchange.traffic import Traffic
from covey_exchange.transport import Transport

HEADER_KIND = "covey/header"
UPDATE_KIND = "covey/update"
_HEADER_BYTES_MAX = 1024
_log = logging.getLogger(__name__)

Admit = Callable[[Envelope, str], Message]
"""Verify a message that a site brought and pass it on if it is new."""


@dataclass
class _Held:
    """An update of which at least the header and the leaves are here."""

    message: Message
    header: UpdateHeader
    payload: Payload
    receiving: bool = False
    delivered: bool = False

    def update(self) -> SiteUpdate:
        return SiteUpdate(self.message, self.header, self.payload.data())


class Ring:
    """Takes updates in, hands them on, and repairs what is missing."""

    def __init__(
        self,
        site: str,
        transport: Transport,
        gossip: Gossip,
        requests: Requests,
        limits: Limits,
        traffic: Traffic,
        max_update_bytes: int,
        admit: Admit,
        deliver: Callable[[SiteUpdate], None],
    ) -> None:
        self._site = site
        self._transport = transport
        self._gossip = gossip
        self._requests = requests
        self._limits = limits
        self._traffic = traffic
        self._max_update_bytes = max_update_bytes
        self._admit = admit
        self._deliver = deliver
        self._order: list[str] = [site]
        self._lines: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limits.lines_per_peer))
        self._headers: dict[bytes, tuple[Message, UpdateHeader]] = {}
        self._held: dict[bytes, _Held] = {}
        self._first_round = 0
        self._background = Background()
        requests.serve(HEADER_KIND, self._answer_header)
        requests.serve(UPDATE_KIND, self._answer_update)

    def set_sites(self, sites: Iterable[str]) -> None:
        """The participants, oneself included."""
        self._order = sorted({*sites, self._site}, key=str.lower)

    async def close(self) -> None:
        """Stop forwarding and fetching."""
        await self._background.close()

    def offer(self, message: Message, header: UpdateHeader, payload: Payload) -> None:
        """Put one's own update, which is complete, on the ring."""
        held = _Held(message, header, payload, delivered=True)
        self._headers[message.digest] = (message, header)
        self._held[message.digest] = held
        self._background.start(self._forward(held), "forward own update")

    def announce(self, message: Message, header: UpdateHeader) -> None:
        """A header has come: see to it that the update comes too."""
        if message.digest in self._headers or header.length > self._max_update_bytes:
            return
        if sum(other.site == header.site for _, other in self._headers.values()) < self._limits.updates_per_site:
            self._headers[message.digest] = (message, header)
            self._background.start(self._repair(message.digest, header.round), "see to an update")

    def prune(self, before_round: int) -> None:
        """Forget the updates of earlier rounds."""
        self._first_round = max(self._first_round, before_round)
        for digest, (_, header) in list(self._headers.items()):
            if header.round < before_round:
                del self._headers[digest]
                self._held.pop(digest, None)

    async def receive(self, connection: Connection, offer: Offer) -> None:
        """Answer an offer on an accepted connection, and take the update in if it is wanted.

        Raises:
            ProtocolViolation: a segment contradicts the signed root; the connection must be closed.
            PeerUnreachable: the connection broke; what came so far is kept.
        """
        try:
            held = self._taken(connection.site, offer)
        except (MessageRefused, ProtocolViolation) as error:
            self._traffic.refuse(connection.site, error.refusal, str(error))
            await _answer(connection, Answer.KIND_REFUSED, reason=str(error))
            return
        if held is None:
            await _answer(connection, Answer.KIND_REFUSED, reason="its round is over")
            return
        if not (held.payload.complete or held.receiving):
            held.receiving = True
            try:
                first = held.payload.filled
                await _answer(connection, Answer.KIND_WANT, next_segment=first)
                for index in range(first, len(held.payload.leaves.leaf)):
                    held.payload.put(index, await connection.receive_segment(), connection.site)
            finally:
                held.receiving = False
            self._arrived(held)
        await _answer(connection, Answer.KIND_HAVE)

    async def fetch(self, digest: bytes) -> SiteUpdate:
        """See `Exchange.fetch`."""
        held = self._held.get(digest)
        if held is not None and held.payload.complete:
            return held.update()
        attempts: dict[str, str] = {}
        for site in self._holders():
            try:
                if digest not in self._headers:
                    await self._fetch_header(site, digest)
                message, header = self._headers[digest]
                data = await self._requests.ask(site, UPDATE_KIND, digest, header.length, header.root)
            except ExchangeError as problem:
                attempts[site] = str(problem)
                continue
            held = self._held.setdefault(digest, _Held(message, header, Payload(to_leaves(data))))
            for index, segment in enumerate(segments.split(data)):
                held.payload.put(index, segment, site)
            self._arrived(held)
            return held.update()
        raise UpdateUnavailable(digest, attempts)

    def _taken(self, giver: str, offer: Offer) -> _Held | None:
        """What an offer is about, after checking all that is known before the first segment; None if it is too late.

        Raises:
            MessageRefused, ProtocolViolation: it must not be taken.
        """
        message = self._admit(from_wire(offer.header), giver)
        header = message.body
        if not isinstance(header, UpdateHeader):
            raise ProtocolViolation(giver, Refusal.INVALID_OFFER, f"a {type(header).__name__} is no update")
        if header.round < self._first_round:
            return None
        held = self._held.get(message.digest)
        if held is None:
            if header.length != offer.leaves.length:
                raise ProtocolViolation(giver, Refusal.INVALID_OFFER, "its leaves have another length")
            check_leaves(offer.leaves, giver, self._max_update_bytes, header.root)
            if sum(other.header.site == header.site for other in self._held.values()) >= self._limits.updates_per_site:
                raise ProtocolViolation(header.site, Refusal.FLOOD, f"{self._limits.updates_per_site} updates are kept")
            held = self._held[message.digest] = _Held(message, header, Payload(offer.leaves))
            self._background.start(self._forward(held), f"forward the update of {header.site}")
        return held

    def _arrived(self, held: _Held) -> None:
        if not held.delivered:
            held.delivered = True
            self._deliver(held.update())

    async def _forward(self, held: _Held) -> None:
        """Hand an update, segment by segment as it comes in, to the first successor that takes it."""
        for site in self._successors(until=held.header.site):
            if self._gossip.is_down(site):
                continue
            try:
                await self._hand_over(held, site)
            except (PeerUnreachable, PeerRefused, ProtocolViolation) as problem:
                _log.info("update of %s goes past a site: %s", held.header.site, problem)
                continue
            return

    async def _hand_over(self, held: _Held, site: str) -> None:
        # No circular wait: whoever holds a line for an update gets it from a site that holds a line for it as well.
        leaves = held.payload.leaves
        async with self._lines[site], self._transport.borrow(site) as connection:
            await connection.send(Frame(offer=Offer(header=to_wire(held.message.envelope), leaves=leaves)))
            answer = (await connection.expect("answer")).answer
            if answer.kind == Answer.KIND_WANT:
                for index in range(answer.next_segment, len(leaves.leaf)):
                    await connection.send_segment(await held.payload.segment(index))
                answer = (await connection.expect("answer")).answer
            if answer.kind != Answer.KIND_HAVE:
                raise PeerRefused(site, f"takes no update of {held.header.site}: {answer.reason}")

    def _successors(self, until: str) -> Iterator[str]:
        """The sites after this one in ring order, up to one site or oneself."""
        start = self._order.index(self._site)
        for step in range(1, len(self._order)):
            site = self._order[(start + step) % len(self._order)]
            if site == until:
                return
            yield site

    def _holders(self) -> list[str]:
        """Whom to ask for an update: the sites before us in the ring, the next one first; reachable ones first."""
        others = list(reversed(list(self._successors(until=self._site))))
        return sorted(others, key=self._gossip.is_down)

    async def _fetch_header(self, site: str, digest: bytes) -> None:
        data = await self._requests.ask(site, HEADER_KIND, digest, _HEADER_BYTES_MAX, None)
        try:
            message = self._admit(from_wire(Signed.FromString(data)), site)
        except DecodeError as error:
            raise ProtocolViolation(site, Refusal.MALFORMED_FRAME, "no signed header") from error
        header = message.body
        if message.digest != digest or not isinstance(header, UpdateHeader) or header.length > self._max_update_bytes:
            raise ProtocolViolation(site, Refusal.INVALID_OFFER, "not the header that was asked for")
        self._headers[digest] = (message, header)

    async def _repair(self, digest: bytes, round_: int) -> None:
        """Fetch an announced update that makes no progress, until it is here or its round is over.

        While the ring brings something, a slow line is the likelier reason than a dead site, and fetching would only
        make it slower: then patience is longer.
        """
        filled, quiet_seconds = 0, 0.0
        while digest in self._headers:
            held = self._held.get(digest)
            if held is not None and held.payload.complete:
                return
            now_filled = held.payload.filled if held else 0
            busy = any(other.receiving for other in self._held.values())
            if now_filled > filled:
                filled, quiet_seconds = now_filled, 0.0
            elif quiet_seconds >= (self._limits.patience_seconds if busy else self._limits.repair_seconds):
                try:
                    await self.fetch(digest)
                except UpdateUnavailable as problem:
                    _log.info("round %d: %s", round_, problem)
                quiet_seconds = 0.0
                continue
            pause = self._limits.repair_seconds * random.uniform(0.5, 1)  # noqa: S311 (spreads load, no secret)
            await asyncio.sleep(pause)
            quiet_seconds += pause

    async def _answer_header(self, _site: str, digest: bytes) -> bytes | None:
        known = self._headers.get(digest)
        return to_wire(known[0].envelope).SerializeToString() if known else None

    async def _answer_update(self, _site: str, digest: bytes) -> bytes | None:
        held = self._held.get(digest)
        return held.payload.data() if held is not None and held.payload.complete else None


async def _answer(connection: Connection, kind: Answer.Kind.ValueType, reason: str = "", next_segment: int = 0) -> None:
    await connection.send(Frame(answer=Answer(kind=kind, reason=reason, next_segment=next_segment)))
