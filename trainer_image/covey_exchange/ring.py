"""Updates round the ring: all-gather of unmodified signed payloads.

Sites stand in the order of their owner addresses. Each hands every update that it has, or is just getting, to the next
site that it can reach, until the origin would be next. What the ring does not bring in time is fetched from whoever
holds it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator

from covey_chain.types import UpdateHeader

from covey_exchange import handover
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
    ScratchFailed,
    UpdateUnavailable,
)
from covey_exchange.gossip import Gossip
from covey_exchange.handover import Held
from covey_exchange.limits import Limits
from covey_exchange.messages import Envelope, from_wire
from covey_exchange.payload import Payload, check_leaves, indices
from covey_exchange.proto.wire_pb2 import Answer, Frame, Offer, Want
from covey_exchange.scratch import Scratch
from covey_exchange.segments import SEGMENT_BYTES
from covey_exchange.traffic import Traffic
from covey_exchange.transport import Transport

_log = logging.getLogger(__name__)

Admit = Callable[[Envelope, str], Message]
"""Verify a message that a site brought and pass it on if it is new."""


class Ring:
    """Takes updates in, hands them on, and repairs what is missing."""

    def __init__(
        self,
        site: str,
        transport: Transport,
        gossip: Gossip,
        limits: Limits,
        traffic: Traffic,
        max_update_bytes: int,
        scratch: Scratch,
        admit: Admit,
        deliver: Callable[[SiteUpdate], None],
    ) -> None:
        self._site = site
        self._transport = transport
        self._gossip = gossip
        self._limits = limits
        self._traffic = traffic
        self._max_update_bytes = max_update_bytes
        self._scratch = scratch
        self._admit = admit
        self._deliver = deliver
        self._order: list[str] = [site]
        self._lines: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limits.lines_per_peer))
        self._headers: dict[bytes, tuple[Message, UpdateHeader]] = {}
        self._held: dict[bytes, Held] = {}
        self._first_round = 0
        self._background = Background()

    def set_sites(self, sites: Iterable[str]) -> None:
        """The participants, oneself included."""
        self._order = sorted({*sites, self._site}, key=str.lower)

    async def close(self) -> None:
        """Stop forwarding and fetching."""
        await self._background.close()

    def offer(self, message: Message, header: UpdateHeader, payload: Payload) -> None:
        """Put one's own update, which is complete, on the ring."""
        held = Held(message, header, payload, delivered=True)
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
        self._headers = {digest: known for digest, known in self._headers.items() if known[1].round >= before_round}
        self._held = {digest: held for digest, held in self._held.items() if held.header.round >= before_round}

    async def receive(self, connection: Connection, offer: Offer, wanted: bytes | None = None) -> Held | None:
        """Answer an offer, and take the update in if it is wanted; None if it must not be taken.

        Args:
            connection: where it came.
            offer: what is offered.
            wanted: digest of the update that was asked for; it is taken even if somebody else is sending it.

        Raises:
            ProtocolViolation: a segment contradicts the signed root; the connection must be closed.
            PeerUnreachable: the connection broke; what came so far is kept.
            ScratchFailed: this site cannot keep it.
        """
        site = connection.site
        try:
            held = self._taken(site, offer, wanted)
        except (MessageRefused, ProtocolViolation) as error:
            self._traffic.refuse(site, error.refusal, str(error))
            await handover.answer(connection, Answer.KIND_REFUSED, reason=str(error))
            return None
        except ScratchFailed as error:
            _log.error("cannot take an update: %s", error)
            await handover.answer(connection, Answer.KIND_REFUSED, reason="no room")
            return None
        if held is None:
            await handover.answer(connection, Answer.KIND_REFUSED, reason="its round is over")
        elif held.payload.complete or (wanted is None and held.comes_from_another(site)):
            await handover.answer(connection, Answer.KIND_HAVE)
        elif held.lines[site] >= self._limits.lines_per_update:
            await handover.answer(connection, Answer.KIND_REFUSED, reason="it comes over enough connections")
        else:
            await handover.take(connection, held)
            if held.payload.complete:
                self._arrived(held)
                await handover.answer(connection, Answer.KIND_HAVE)
            else:
                await handover.answer(connection, Answer.KIND_WANT, missing=held.payload.missing)
        return held

    async def give(self, connection: Connection, digest: bytes) -> None:
        """Hand an update over to a site that has asked for it.

        Raises:
            PeerUnreachable, PeerRefused, ProtocolViolation: that failed; the connection must be closed.
        """
        held = self._held.get(digest)
        if held is None or not held.payload.complete:  # only whole ones: two that lack the same must not wait in turn
            await connection.refuse("not here")
        else:
            await self._give(connection, held, lines=1)

    async def fetch(self, digest: bytes) -> SiteUpdate:
        """See `Exchange.fetch`."""
        held = self._held.get(digest)
        if held is not None and held.payload.complete:
            return held.update()
        attempts: dict[str, str] = {}
        for site in self._holders():
            try:
                held = await self._ask(site, digest)
            except ProtocolViolation as violation:
                self._traffic.refuse(site, violation.refusal, str(violation))
                attempts[site] = str(violation)
            except ExchangeError as problem:
                attempts[site] = str(problem)
            else:
                return held.update()
        raise UpdateUnavailable(digest, attempts)

    async def _ask(self, site: str, digest: bytes) -> Held:
        async with self._transport.borrow(site) as connection:
            await connection.send(Frame(want=Want(digest=digest)))
            while True:
                frame = await connection.receive(self._limits.stall_seconds)
                if frame.WhichOneof("body") == "refused":
                    raise PeerRefused(site, frame.refused.reason)
                if frame.WhichOneof("body") != "offer":
                    raise ProtocolViolation(site, Refusal.OUT_OF_ORDER, "no offer of what was asked for")
                held = await self.receive(connection, frame.offer, wanted=digest)
                if held is None:
                    raise PeerRefused(site, "offers what cannot be taken")
                if held.payload.complete:
                    return held

    def _taken(self, giver: str, offer: Offer, wanted: bytes | None) -> Held | None:
        """What an offer is about, after checking all that is known before the first segment; None if it is too late.

        Raises:
            MessageRefused, ProtocolViolation: it must not be taken.
            ScratchFailed: there is no room for it.
        """
        message = self._admit(from_wire(offer.header), giver)
        header = message.body
        if not isinstance(header, UpdateHeader):
            raise ProtocolViolation(giver, Refusal.INVALID_OFFER, f"a {type(header).__name__} is no update")
        if wanted not in (None, message.digest):
            raise ProtocolViolation(giver, Refusal.INVALID_OFFER, "not the update that was asked for")
        if header.round < self._first_round:
            return None
        held = self._held.get(message.digest)
        if held is None:
            if header.length != offer.leaves.length:
                raise ProtocolViolation(giver, Refusal.INVALID_OFFER, "its leaves have another length")
            check_leaves(offer.leaves, giver, self._max_update_bytes, header.root)
            kept = sum(other.header.site == header.site for other in self._held.values())
            if wanted is None and kept >= self._limits.updates_per_site:
                raise ProtocolViolation(header.site, Refusal.FLOOD, f"{self._limits.updates_per_site} updates are kept")
            held = Held(message, header, Payload(offer.leaves, scratch=self._scratch))
            self._held[message.digest] = held
            self._background.start(self._forward(held), f"forward the update of {header.site}")
        return held

    def _arrived(self, held: Held) -> None:
        if not held.delivered:
            held.delivered = True
            self._deliver(held.update())

    async def _forward(self, held: Held) -> None:
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

    async def _hand_over(self, held: Held, site: str) -> None:
        # No circular wait: whoever holds a line for an update gets it from a site that holds a line for it as well.
        async with self._lines[site], self._transport.borrow(site) as connection:
            await self._give(connection, held, lines=self._limits.lines_per_update)

    async def _give(self, connection: Connection, held: Held, lines: int) -> None:
        """Offer an update until the peer has all of it; over more connections than this one if there are `lines`."""
        site, count = connection.site, held.payload.count
        unsent = count + 1
        while (answer := await handover.offer(connection, held)).kind == Answer.KIND_WANT:
            due = deque(indices(answer.missing, count, site))
            if len(due) >= unsent:
                raise PeerRefused(site, "does not keep what it is sent")
            unsent = len(due)
            worthwhile = held.header.length // SEGMENT_BYTES  # a small update is there before another line is
            helpers = [
                self._background.start(self._help(held, site, due), "another connection for an update")
                for _ in range(min(lines, len(due), worthwhile) - 1)
            ]
            try:
                answer = await handover.send(connection, held, due)
            except BaseException:
                for helper in helpers:
                    helper.cancel()
                raise
            finally:
                await asyncio.gather(*helpers, return_exceptions=True)
            if answer.kind == Answer.KIND_HAVE:
                return
        if answer.kind != Answer.KIND_HAVE:
            raise PeerRefused(site, f"takes no update of {held.header.site}: {answer.reason}")

    async def _help(self, held: Held, site: str, due: deque[int]) -> None:
        """Send part of an update over another connection, if one is to be had."""
        lines = self._lines[site]
        if lines.locked():
            return
        try:
            async with lines, self._transport.borrow(site) as connection:
                if (await handover.offer(connection, held)).kind == Answer.KIND_WANT:
                    await handover.send(connection, held, due)
        except (PeerUnreachable, ProtocolViolation) as problem:  # what it leaves undone is seen in the next answer
            _log.info("one connection less for the update of %s: %s", held.header.site, problem)
        except PeerRefused as problem:
            _log.info("no further connection for the update of %s: %s", held.header.site, problem)

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
            del held  # a payload that is looked at is not forgotten
            pause = self._limits.repair_seconds * random.uniform(0.5, 1)  # noqa: S311 (spreads load, no secret)
            await asyncio.sleep(pause)
            quiet_seconds += pause
