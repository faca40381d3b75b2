"""Questions from site to site: a kind, a short body, and an answer of any length in verified segments."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from covey_exchange.bulk import receive_segments, send_segments
from covey_exchange.connection import Connection
from covey_exchange.errors import PeerRefused, ProtocolViolation, Refusal
from covey_exchange.payload import Payload, check_leaves, to_leaves
from covey_exchange.proto.wire_pb2 import Frame, Request, Response
from covey_exchange.scratch import Scratch
from covey_exchange.traffic import Traffic
from covey_exchange.transport import Transport

ANSWER_SECONDS = 60.0  # a peer may have to read a model from disk first

Handler = Callable[[str, bytes], Awaitable[bytes | None]]
"""(address of the asking site, body) -> the answer, or None if there is none."""


class Requests:
    """Asks peers and answers them."""

    def __init__(self, transport: Transport, traffic: Traffic, scratch: Scratch) -> None:
        self._transport = transport
        self._scratch = scratch
        self._traffic = traffic
        self._handlers: dict[str, Handler] = {}

    def serve(self, kind: str, handler: Handler) -> None:
        """Answer requests of a kind.

        Raises:
            ValueError: the kind is served already.
        """
        if kind in self._handlers:
            raise ValueError(f'requests of kind "{kind}" are served already')
        self._handlers[kind] = handler

    async def ask(self, site: str, kind: str, body: bytes, limit_bytes: int, root: bytes | None) -> bytes:
        """Ask one peer; see `Exchange.request`."""
        async with self._transport.borrow(site) as connection:
            await connection.send(Frame(request=Request(kind=kind, body=body)))
            frame = await connection.receive(ANSWER_SECONDS)
            if frame.WhichOneof("body") == "refused":
                raise PeerRefused(site, f"{kind}: {frame.refused.reason}")
            try:
                if frame.WhichOneof("body") != "response":
                    raise ProtocolViolation(site, Refusal.OUT_OF_ORDER, f"no response to {kind}")
                check_leaves(frame.response.leaves, site, limit_bytes, root)
                payload = Payload(frame.response.leaves, scratch=self._scratch)
                await connection.bulk(lambda line: receive_segments(line, payload), payload.wake)
                if not payload.complete:
                    raise ProtocolViolation(site, Refusal.OUT_OF_ORDER, f"an end before all of {kind} has come")
            except ProtocolViolation as error:
                self._traffic.refuse(site, error.refusal, str(error))
                raise
            return bytes(payload.data())

    async def answer(self, connection: Connection, request: Request) -> None:
        """Answer one request on an accepted connection."""
        handler = self._handlers.get(request.kind)
        if handler is None:
            await connection.refuse(f'requests of kind "{request.kind}" are not served here')
            return
        data = await handler(connection.site, request.body)
        if data is None:
            await connection.refuse("not here")
            return
        payload = Payload(await asyncio.to_thread(to_leaves, data), data=data)
        await connection.send(Frame(response=Response(leaves=payload.leaves)))
        due = deque(range(payload.count))
        await connection.bulk(lambda line: send_segments(line, payload, due), payload.wake)
