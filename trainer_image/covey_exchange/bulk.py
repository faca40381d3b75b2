"""Segments over a connection, in a thread: OpenSSL, BLAKE3 and the kernel all run without Python's lock.

A segment is a small frame and then its bytes as they are, which are hashed while they are in a core's cache.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from google.protobuf.message import DecodeError

from covey_exchange import segments
from covey_exchange.egress import TokenBucket
from covey_exchange.errors import PeerUnreachable, ProtocolViolation, Refusal
from covey_exchange.frames import LENGTH_BYTES, length_of, pack
from covey_exchange.limits import Limits
from covey_exchange.payload import Payload
from covey_exchange.proto.wire_pb2 import Frame, Ping, Segment, Sent
from covey_exchange.segments import SEGMENT_BYTES
from covey_exchange.stream import TlsStream, ciphertext_room
from covey_exchange.traffic import PeerTraffic

HASHED_BYTES = 2**16  # at once: BLAKE3 is several times faster than with a record of TLS that begins anywhere


class Line:
    """The blocking side of a connection; its methods raise OSError when it breaks, TimeoutError when it is silent."""

    def __init__(
        self,
        site: str,
        stream: TlsStream,
        traffic: PeerTraffic,
        egress: TokenBucket,
        limits: Limits,
        stopped: threading.Event,
    ) -> None:
        self.site = site
        self.stopped = stopped
        self.limits = limits
        self._stream = stream
        self._traffic = traffic
        self._egress = egress
        self._ciphertext: memoryview | None = None

    def send(self, frame: Frame, data: memoryview | None = None) -> None:
        """Send a frame, and what follows it as it is; no faster than the egress cap."""
        self._send(pack(frame), more=bool(data))
        if data is not None:
            while data:
                count = self._egress.at_once
                self._send(data[:count])
                data = data[count:]

    def receive(self, deadline: float) -> Frame:
        """The next small frame, until a time of `time.monotonic`.

        Raises:
            ProtocolViolation: it is too large, or not of the protocol.
        """
        room = memoryview(bytearray(self.limits.hello_bytes))
        self.fill(room[:LENGTH_BYTES], deadline)
        body = room[: length_of(room[:LENGTH_BYTES], len(room), self.site)]
        self.fill(body, deadline)
        try:
            return Frame.FromString(bytes(body))
        except DecodeError as error:
            raise ProtocolViolation(self.site, Refusal.MALFORMED_FRAME) from error

    def fill(self, view: memoryview, deadline: float) -> bytes:
        """Fill a view until a time of `time.monotonic`; gives its leaf hash."""
        if self._ciphertext is None:
            self._ciphertext = ciphertext_room()
        digest = segments.leaf_hasher()
        filled = hashed = 0
        while filled < len(view):
            filled += self._stream.read_into(view[filled:], self._ciphertext)
            whole = filled if filled == len(view) else filled // HASHED_BYTES * HASHED_BYTES
            if whole > hashed:
                digest.update(view[hashed:whole])
                hashed = whole
            if time.monotonic() > deadline:
                raise PeerUnreachable(self.site, f"nothing whole in {self.limits.trickle_seconds:g} s")
        self._traffic.received(len(view))
        return digest.digest()

    def _send(self, piece: bytes | memoryview, *, more: bool = False) -> None:
        seconds = self._egress.reserve(len(piece))
        if self.stopped.wait(seconds) if seconds else self.stopped.is_set():  # a wait for nothing costs 4 µs
            raise ConnectionAbortedError("this side has ended it")
        self._stream.write_all(piece, more=more)
        self._traffic.sent(len(piece))


def send_segments(line: Line, payload: Payload, due: deque[int]) -> None:
    """Send segments as soon as they are there, until none is left; other lines may take from the same `due`."""
    while due:
        try:
            index = due.popleft()
        except IndexError:  # another line was faster
            break
        try:
            while not payload.wait(index, line.limits.ping_seconds, line.stopped):
                line.send(Frame(ping=Ping()))  # waiting ourselves is no silence
            line.send(Frame(segment=Segment(index=index)), payload.segment(index))
        except BaseException:
            due.appendleft(index)
            raise
    line.send(Frame(sent=Sent()))


def receive_segments(line: Line, payload: Payload) -> None:
    """Take segments until the peer says that it has sent them all.

    Raises:
        ProtocolViolation: anything else came, or a segment that contradicts its leaf.
        ScratchFailed: there is no room for it.
        PeerUnreachable: it takes too long, or goes on although all is here.
    """
    buffer = memoryview(bytearray(min(SEGMENT_BYTES, payload.leaves.length)))
    while True:
        deadline = time.monotonic() + line.limits.trickle_seconds
        frame = line.receive(deadline)
        match frame.WhichOneof("body"):
            case "segment":
                index = frame.segment.index
                if index >= payload.count:
                    raise ProtocolViolation(line.site, Refusal.CORRUPT_SEGMENT, f"segment {index} of {payload.count}")
                piece = buffer[: segments.size(payload.leaves.length, index)]
                payload.put(index, piece, line.fill(piece, deadline), line.site)
            case "ping" if not payload.complete:
                pass
            case "ping":
                raise PeerUnreachable(line.site, "all has come another way")
            case "sent":
                return
            case other:
                raise ProtocolViolation(line.site, Refusal.OUT_OF_ORDER, f"{other} among segments")
