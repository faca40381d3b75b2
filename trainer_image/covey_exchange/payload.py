"""A payload as it comes in: segment by segment, each checked against its leaf, readable before it is complete.

Longer ones lie in a file on the scratch volume, of which memory holds what the kernel has room for. A segment is
written only once it has been checked, so that two sources may fill one payload.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import numpy as np

from covey_exchange import segments
from covey_exchange.errors import ProtocolViolation, Refusal, ScratchFailed
from covey_exchange.proto.wire_pb2 import Leaves
from covey_exchange.scratch import Scratch

MEMORY_BYTES_MAX = segments.SEGMENT_BYTES


def to_leaves(payload: bytes | memoryview) -> Leaves:
    """Length and leaf hashes of a payload."""
    return Leaves(length=len(payload), leaf=segments.leaves(payload))


def check_leaves(leaves: Leaves, site: str, limit_bytes: int, root: bytes | None) -> None:
    """Hold what a peer announces to what may come, before room is taken for it.

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
    """Bytes under known leaf hashes; threads may fill, read and await it at the same time.

    Attributes:
        leaves: length and leaf hashes.
        filled: number of verified segments.
    """

    def __init__(
        self, leaves: Leaves, *, data: bytes | memoryview | None = None, scratch: Scratch | None = None
    ) -> None:
        """Empty; or complete with `data`, which is not copied and whose leaves these must be.

        Args:
            leaves: length and leaf hashes, which `check_leaves` has passed.
            data: all of it.
            scratch: where longer ones lie; in a file of its own if None.

        Raises:
            ScratchFailed: there is no room for the file.
        """
        self.leaves = leaves
        self._hashes: Sequence[bytes] = leaves.leaf
        self._here = bytearray(b"\0" if data is None else b"\1") * len(self._hashes)
        self.filled = sum(self._here)
        self._changed = threading.Condition()
        self._buffer: memoryview | None = None
        self._file = -1
        if data is not None:
            self._view = memoryview(data)
        elif leaves.length <= MEMORY_BYTES_MAX:
            self._buffer = memoryview(bytearray(leaves.length))
            self._view = self._buffer.toreadonly()
        else:
            try:
                self._file, self._view = (scratch or Scratch()).file(leaves.length)
            except OSError as error:
                raise ScratchFailed(str(error)) from error

    @property
    def count(self) -> int:
        """Number of segments."""
        return len(self._hashes)

    @property
    def complete(self) -> bool:
        """Whether all segments are there."""
        return self.filled == len(self._hashes)

    @property
    def missing(self) -> bytes:
        """Bit i (of byte i // 8, the lowest first) says that segment i is still needed."""
        return np.packbits(np.frombuffer(self._here, np.uint8) ^ 1, bitorder="little").tobytes()

    def put(self, index: int, data: bytes | memoryview, leaf: bytes, site: str) -> None:
        """Take a segment; one that is there already is checked and dropped.

        Args:
            index: which.
            data: its bytes.
            leaf: hash of `data` (`segments.leaf`).
            site: who sent it.

        Raises:
            ProtocolViolation: not the bytes under the leaf; nothing is kept of it.
            ScratchFailed: it cannot be written.
        """
        if index >= len(self._hashes) or leaf != self._hashes[index]:
            raise ProtocolViolation(site, Refusal.CORRUPT_SEGMENT, f"segment {index}")
        if not self._here[index]:
            self._write(data, segments.place(self.leaves.length, index).start)
            with self._changed:
                self.filled += not self._here[index]
                self._here[index] = 1
                self._changed.notify_all()

    def wait(self, index: int, seconds: float, stopped: threading.Event) -> bool:
        """Block until a segment is there, for so long at most; False if it is not, or `stopped` is set."""
        with self._changed:
            self._changed.wait_for(lambda: self._here[index] or stopped.is_set(), seconds)
            return bool(self._here[index]) and not stopped.is_set()

    def wake(self) -> None:
        """Have all who wait look whether they are to stop."""
        with self._changed:
            self._changed.notify_all()

    def segment(self, index: int) -> memoryview:
        """A segment that is there."""
        return self._view[segments.place(self.leaves.length, index)]

    def data(self) -> memoryview:
        """The whole payload, once it is complete; not copied, and there as long as anybody holds it."""
        assert self.complete, "payload is incomplete"
        return self._view

    def _write(self, data: bytes | memoryview, start: int) -> None:
        if self._buffer is not None:
            self._buffer[start : start + len(data)] = data
            return
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], start + written)
        except OSError as error:
            raise ScratchFailed(str(error)) from error


def indices(missing: bytes, count: int, site: str) -> list[int]:
    """The segments that a peer's `missing` names.

    Raises:
        ProtocolViolation: of another length than `count` segments need.
    """
    if len(missing) != -(-count // 8):
        raise ProtocolViolation(site, Refusal.MALFORMED_FRAME, f"{len(missing)} bytes name missing segments of {count}")
    bits = np.unpackbits(np.frombuffer(missing, np.uint8), count=count, bitorder="little")
    return [int(index) for index in np.flatnonzero(bits)]
