"""How a frame lies on the wire: a 4-byte big-endian length, then the protobuf message."""

from __future__ import annotations

from covey_exchange.errors import ProtocolViolation, Refusal
from covey_exchange.proto.wire_pb2 import Frame

LENGTH_BYTES = 4


def pack(frame: Frame) -> bytes:
    """A frame with its length."""
    body = frame.SerializeToString()
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def length_of(prefix: bytes | memoryview, limit_bytes: int, site: str) -> int:
    """The length that a site announces.

    Raises:
        ProtocolViolation: it is above the limit.
    """
    length = int.from_bytes(prefix, "big")
    if length > limit_bytes:
        raise ProtocolViolation(site, Refusal.OVERSIZE_FRAME, f"{length} bytes, at most {limit_bytes}")
    return length
