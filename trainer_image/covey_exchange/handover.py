"""How an update goes from one site to the next: an offer, an answer, and segments over one or several connections."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from covey_chain.types import UpdateHeader

from covey_exchange.bulk import receive_segments, send_segments
from covey_exchange.connection import Connection
from covey_exchange.envelope import Message, SiteUpdate
from covey_exchange.messages import to_wire
from covey_exchange.payload import Payload
from covey_exchange.proto.wire_pb2 import Answer, Frame, Offer


@dataclass
class Held:
    """An update of which at least the header and the leaves are here.

    Attributes:
        message: its signed header.
        header: body of that.
        payload: what is here of it.
        lines: connections over which it is coming, by site.
        delivered: whether it has been passed on to the application.
    """

    message: Message
    header: UpdateHeader
    payload: Payload
    lines: Counter[str] = field(default_factory=Counter)
    delivered: bool = False

    @property
    def receiving(self) -> bool:
        """Whether somebody is sending it to us."""
        return self.lines.total() > 0

    def comes_from_another(self, site: str) -> bool:
        """Whether somebody else than `site` is sending it to us."""
        return self.lines.total() > self.lines[site]

    def update(self) -> SiteUpdate:
        """The whole of it."""
        return SiteUpdate(self.message, self.header, self.payload.data())


async def offer(connection: Connection, held: Held) -> Answer:
    """Offer an update; gives the peer's answer.

    Raises:
        PeerUnreachable, ProtocolViolation: the connection is of no more use.
    """
    header = to_wire(held.message.envelope)
    await connection.send(Frame(offer=Offer(header=header, leaves=held.payload.leaves)))
    return (await connection.expect("answer")).answer


async def send(connection: Connection, held: Held, due: deque[int]) -> Answer:
    """Send what is due, which other connections may share, to a peer that wants it; gives its last answer.

    Raises:
        PeerUnreachable, ProtocolViolation: as `offer`; what was under way is due again.
    """
    await connection.bulk(lambda line: send_segments(line, held.payload, due), held.payload.wake)
    return (await connection.expect("answer")).answer


async def take(connection: Connection, held: Held) -> None:
    """Answer an offer with what is needed, take that in, and say what is still missing.

    Raises:
        ProtocolViolation: a segment contradicts the signed root; the connection must be closed.
        PeerUnreachable: the connection broke; what came so far is kept.
        ScratchFailed: there is no room.
    """
    held.lines[connection.site] += 1
    try:
        await answer(connection, Answer.KIND_WANT, missing=held.payload.missing)
        await connection.bulk(lambda line: receive_segments(line, held.payload), held.payload.wake)
    finally:
        held.lines[connection.site] -= 1


async def answer(connection: Connection, kind: Answer.Kind.ValueType, reason: str = "", missing: bytes = b"") -> None:
    """Answer an offer."""
    await connection.send(Frame(answer=Answer(kind=kind, reason=reason, missing=missing)))
