"""One authenticated connection to a peer: length-prefixed protobuf frames, bounded in size and in silence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from google.protobuf.message import DecodeError

from covey_exchange.bulk import Line
from covey_exchange.egress import SLICE_BYTES, TokenBucket
from covey_exchange.errors import PeerUnreachable, ProtocolViolation, Refusal
from covey_exchange.frames import LENGTH_BYTES, length_of, pack
from covey_exchange.limits import Limits
from covey_exchange.proto.wire_pb2 import Frame, Refused
from covey_exchange.stream import TlsStream
from covey_exchange.traffic import PeerTraffic

_CLOSE_SECONDS = 2.0


class Connection:
    """Frames to and from one site; at most one task reads and one writes at a time."""

    def __init__(self, site: str, stream: TlsStream, traffic: PeerTraffic, egress: TokenBucket, limits: Limits) -> None:
        self.site = site
        self._stream = stream
        self._traffic = traffic
        self._egress = egress
        self._limits = limits
        self._at_close: Callable[[], None] | None = None
        self._stopped = threading.Event()

    def on_close(self, call: Callable[[], None]) -> None:
        """Have `call` called once when this side closes the connection."""
        self._at_close = call

    @property
    def alive(self) -> bool:
        """Of a connection on which nothing is due: False once either side has closed it."""
        return not self._stopped.is_set() and self._stream.alive

    async def send(self, frame: Frame) -> None:
        """Send one frame, no faster than the egress cap.

        Raises:
            PeerUnreachable: the connection broke, or the peer takes nothing.
        """
        data = pack(frame)
        try:
            for start in range(0, len(data), SLICE_BYTES):
                piece = data[start : start + SLICE_BYTES]
                await self._egress.take(len(piece))
                async with asyncio.timeout(self._limits.stall_seconds):
                    await self._stream.write(piece)
                self._traffic.sent(len(piece))
        except TimeoutError as error:
            raise PeerUnreachable(self.site, f"took nothing for {self._limits.stall_seconds:g} s") from error
        except OSError as error:
            raise PeerUnreachable(self.site, f"connection lost: {error}") from error

    async def receive(self, wait_seconds: float, limit_bytes: int | None = None) -> Frame:
        """Receive the next frame.

        Args:
            wait_seconds: how long its first byte may take; after that `stall_seconds` bound each silence and
                `trickle_seconds` the whole.
            limit_bytes: largest length accepted; the frame limit if None.

        Raises:
            PeerUnreachable: the connection ended, or the peer is silent or too slow.
            ProtocolViolation: the frame is too large, or not of the protocol.
        """
        limit = self._limits.frame_bytes if limit_bytes is None else limit_bytes
        first = await self._read(1, wait_seconds)
        try:
            async with asyncio.timeout(self._limits.trickle_seconds):
                length = length_of(first + await self._read_exactly(LENGTH_BYTES - 1), limit, self.site)
                body = await self._read_exactly(length)
        except TimeoutError as error:
            raise PeerUnreachable(self.site, f"no frame in {self._limits.trickle_seconds:g} s") from error
        self._traffic.received(LENGTH_BYTES + length)
        try:
            return Frame.FromString(body)
        except DecodeError as error:
            raise ProtocolViolation(self.site, Refusal.MALFORMED_FRAME) from error

    async def expect(self, kind: str, wait_seconds: float | None = None, limit_bytes: int | None = None) -> Frame:
        """Receive a frame of one kind; anything else, and a `refused`, ends the connection.

        Raises:
            PeerUnreachable, ProtocolViolation: as `receive`.
        """
        wait = self._limits.stall_seconds if wait_seconds is None else wait_seconds
        frame = await self.receive(wait, limit_bytes)
        found = frame.WhichOneof("body")
        if found != kind:
            raise ProtocolViolation(self.site, Refusal.OUT_OF_ORDER, f"{found} where {kind} is due")
        return frame

    async def bulk(self, work: Callable[[Line], None], wake: Callable[[], None]) -> None:
        """Let a thread have the connection until `work` is done; nobody else may use it meanwhile.

        Args:
            work: runs in a thread of its own: there are never more of them than connections, which are bounded.
            wake: called when the work is to end early, after the line has been stopped.

        Raises:
            PeerUnreachable: the connection broke, or the peer is silent or too slow.
            Whatever else `work` raises.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Exception | None] = loop.create_future()
        line = Line(self.site, self._stream, self._traffic, self._egress, self._limits, self._stopped)

        def run() -> None:
            problem = None
            try:
                work(line)
            except Exception as error:
                problem = error
            loop.call_soon_threadsafe(done.set_result, problem)

        self._stream.block(self._limits.stall_seconds)
        threading.Thread(target=run, name=f"bulk {self.site}", daemon=True).start()
        cancelled = None
        while not done.done():
            try:
                await asyncio.wait((done,))
            except asyncio.CancelledError as error:  # the socket is the thread's until it has let go of it
                cancelled = error
                self.abort()
                wake()
        self._stream.block(None)
        if cancelled is not None:
            raise cancelled
        match done.result():
            case None:
                return
            case TimeoutError() as silence:
                raise PeerUnreachable(self.site, f"silent for {self._limits.stall_seconds:g} s") from silence
            case OSError() as loss:
                raise PeerUnreachable(self.site, f"connection lost: {loss}") from loss
            case problem:
                raise problem

    async def refuse(self, reason: str) -> None:
        """Tell the peer why, if it still listens; the caller closes the connection."""
        with suppress(PeerUnreachable):
            await self.send(Frame(refused=Refused(reason=reason)))

    def abort(self) -> None:
        """End it at once; whoever uses it fails, and closes it."""
        self._stopped.set()
        self._stream.abort()

    async def close(self) -> None:
        """Close and wait until the connection is gone."""
        if self._at_close is not None:
            self._at_close()
            self._at_close = None
        self._stopped.set()
        await self._stream.close(_CLOSE_SECONDS)

    async def _read_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            data += await self._read(count - len(data), self._limits.stall_seconds)
        return bytes(data)

    async def _read(self, count: int, wait_seconds: float) -> bytes:
        try:
            async with asyncio.timeout(wait_seconds):
                data = await self._stream.read(count)
        except TimeoutError as error:
            raise PeerUnreachable(self.site, f"silent for {wait_seconds:g} s") from error
        except OSError as error:
            raise PeerUnreachable(self.site, f"connection lost: {error}") from error
        if not data:
            raise PeerUnreachable(self.site, "connection closed")
        return data
