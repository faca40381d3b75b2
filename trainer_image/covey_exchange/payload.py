"""A payload as it comes in: segment by segment, each checked against its leaf, readable before it is complete."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from covey_exchange import segments
from covey_exchange.errors import ProtocolViolation, Refusal
from covey_exchange.proto.wire_pb2 import Leaves


def to_leaves(payload: bytes | memoryview) -> Leaves:
    """Length and leaf hashes of a payload."""
    return Leaves(length=len(payload), leaf=segments.leaves(payload))


def check_leaves(leaves: Leaves, site: str, limit_bytes: int, root: bytes | None) -> None:
    """Hold what a peer announces to what may come, before memory is taken for it.

    Raises:
        ProtocolViolation: more than `limit_bytes`, another number of leaves than the length needs, or another root.
    """
    if leaves.length > limit_bytes:
        raise ProtocolViolation(site, Refusal.OVERSIZE_PAYLOAD, f"{leaves.length} bytes, at most {limit_bytes}")
    if len(leaves.leaf) != segments.count(leaves.length):
        raise ProtocolViolation(site, Refusal.INVALID_OFFER, f"{len(leaves.leaf)} leaves for {leaves.length} bytes")
    if root is not None and segments.merkle_root(leaves.leaf) != root:
        raise ProtocolViolation(site, Refusal.CORRUPT_SEGMENT, "the leaves have another root")


class Payload:
    """Bytes under known leaf hashes, filled from the front.

    Attributes:
        leaves: length and leaf hashes.
        filled: number of verified segments.
    """

    def __init__(self, leaves: Leaves, data: bytes | None = None) -> None:
        """Empty; or complete with `data`, which is not copied and whose leaves these must be."""
        self.leaves = leaves
        self._hashes: Sequence[bytes] = leaves.leaf
        self._buffer: bytes | bytearray = bytearray(leaves.length) if data is None else data
        self.filled = 0 if data is None else len(self._hashes)
        self._progress = asyncio.Event()

    @property
    def complete(self) -> bool:
        """Whether all segments are there."""
        return self.filled == len(self._hashes)

    def put(self, index: int, data: bytes | memoryview, site: str) -> None:
        """Take the next segment; one that is there already is ignored, so that two sources may fill one payload.

        Raises:
            ProtocolViolation: out of turn, or not the bytes under the leaf; nothing is kept of it.
        """
        if index > self.filled or index >= len(self._hashes) or segments.leaf(data) != self._hashes[index]:
            raise ProtocolViolation(site, Refusal.CORRUPT_SEGMENT, f"segment {index}")
        if index < self.filled:
            return
        assert isinstance(self._buffer, bytearray), "complete from the start"
        start = index * segments.SEGMENT_BYTES
        self._buffer[start : start + len(data)] = data
        self.filled += 1
        self._progress.set()
        self._progress = asyncio.Event()

    async def segment(self, index: int) -> memoryview:
        """A segment, as soon as it is there."""
        while self.filled <= index:
            await self._progress.wait()
        start = index * segments.SEGMENT_BYTES
        return memoryview(self._buffer)[start : start + segments.SEGMENT_BYTES]

    async def advanced(self, filled: int) -> None:
        """Wait until more than `filled` segments are there."""
        while self.filled <= filled:
            await self._progress.wait()

    def data(self) -> bytes:
        """The whole payload, once it is complete."""
        assert self.complete, "payload is incomplete"
        return bytes(self._buffer)  # no copy if it came as bytes
