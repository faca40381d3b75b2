"""One authenticated connection to a peer: length-prefixed protobuf frames, bounded in size and in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from google.protobuf.message import DecodeError

from covey_exchange.egress import SLICE_BYTES, TokenBucket
from covey_exchange.errors import PeerUnreachable, ProtocolViolation, Refusal
from covey_exchange.limits import Limits
from covey_exchange.proto.wire_pb2 import Frame, Refused, Segment
from covey_exchange.traffic import PeerTraffic

LENGTH_BYTES = 4


class Connection:
    """Frames to and from one site; at most one task reads and one writes at a time."""

    def __init__(
        self,
        site: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        traffic: PeerTraffic,
        egress: TokenBucket,
        limits: Limits,
    ) -> None:
        self.site = site
        self._reader = reader
        self._writer = writer
        self._traffic = traffic
        self._egress = egress
        self._limits = limits
        self._at_close: Callable[[], None] | None = None

    def on_close(self, call: Callable[[], None]) -> None:
        """Have `call` called once when this side closes the connection."""
        self._at_close = call

    @property
    def alive(self) -> bool:
        """False once either side is known to have closed it."""
        return not (self._reader.at_eof() or self._reader.exception() or self._writer.is_closing())

    async def send(self, frame: Frame) -> None:
        """Send one frame, no faster than the egress cap.

        Raises:
            PeerUnreachable: the connection broke, or the peer takes nothing.
        """
        body = frame.SerializeToString()
        data = memoryview(len(body).to_bytes(LENGTH_BYTES, "big") + body)
        try:
            for start in range(0, len(data), SLICE_BYTES):
                piece = data[start : start + SLICE_BYTES]
                await self._egress.take(len(piece))
                self._writer.write(piece)
                async with asyncio.timeout(self._limits.stall_seconds):
                    await self._writer.drain()
                self._traffic.bytes_sent += len(piece)
        except TimeoutError as error:
            raise PeerUnreachable(self.site, f"took nothing for {self._limits.stall_seconds:g} s") from error
        except OSError as error:
            raise PeerUnreachable(self.site, f"connection lost: {error}") from error

    async def receive(self, wait_seconds: float, limit_bytes: int | None = None) -> Frame:
        """Receive the next frame.

        Args:
            wait_seconds: how long its first byte may take; after that `stall_seconds` bound each silence.
            limit_bytes: largest length accepted; the frame limit if None.

        Raises:
            PeerUnreachable: the connection ended or the peer is silent.
            ProtocolViolation: the frame is too large, or not of the protocol.
        """
        limit = self._limits.frame_bytes if limit_bytes is None else limit_bytes
        first = await self._read(1, wait_seconds)
        length = int.from_bytes(first + await self._read_exactly(LENGTH_BYTES - 1), "big")
        if length > limit:
            raise ProtocolViolation(self.site, Refusal.OVERSIZE_FRAME, f"{length} bytes, at most {limit}")
        body = await self._read_exactly(length)
        self._traffic.bytes_received += LENGTH_BYTES + length
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

    async def send_segment(self, data: bytes | memoryview) -> None:
        """Send the next segment of a payload."""
        await self.send(Frame(segment=Segment(data=bytes(data))))

    async def receive_segment(self) -> bytes:
        """Receive the next segment of a payload."""
        return (await self.expect("segment")).segment.data

    async def refuse(self, reason: str) -> None:
        """Tell the peer why, if it still listens; the caller closes the connection."""
        with suppress(PeerUnreachable):
            await self.send(Frame(refused=Refused(reason=reason)))

    async def close(self) -> None:
        """Close and wait until the connection is gone."""
        if self._at_close is not None:
            self._at_close()
            self._at_close = None
        self._writer.close()
        with suppress(OSError, TimeoutError):
            await self._writer.wait_closed()

    async def _read_exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            data += await self._read(count - len(data), self._limits.stall_seconds)
        return bytes(data)

    async def _read(self, count: int, wait_seconds: float) -> bytes:
        try:
            async with asyncio.timeout(wait_seconds):
                data = await self._reader.read(count)
        except TimeoutError as error:
            raise PeerUnreachable(self.site, f"silent for {wait_seconds:g} s") from error
        except OSError as error:
            raise PeerUnreachable(self.site, f"connection lost: {error}") from error
        if not data:
            raise PeerUnreachable(self.site, "connection closed")
        return data
