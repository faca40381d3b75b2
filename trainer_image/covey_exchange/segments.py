"""Payloads as 1 MiB segments under a Merkle root, so that each is checked the moment it arrives.

The tree is that of RFC 9162, section 2.1, over SHA-256: a leaf is the hash of 0x00 and the segment, a node the hash of
0x01 and its children, a lone last node moves up unchanged. SHA-256 (and not keccak) because it is hardware-fast here
and a precompile there. The root of an empty payload is the hash of nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

SEGMENT_BYTES = 2**20
LEAF, _NODE = b"\x00", b"\x01"  # what goes before


def count(length: int) -> int:
    """Segments of a payload of so many bytes."""
    return -(-length // SEGMENT_BYTES)


def size(length: int, index: int) -> int:
    """Bytes of one segment."""
    return min(SEGMENT_BYTES, length - index * SEGMENT_BYTES)


def split(payload: bytes | memoryview) -> Iterator[memoryview]:
    """The segments of a payload, without copying."""
    view = memoryview(payload)
    return (view[start : start + SEGMENT_BYTES] for start in range(0, len(view), SEGMENT_BYTES))


def leaf(segment: bytes | memoryview) -> bytes:
    """Leaf hash of one segment."""
    digest = hashlib.sha256(LEAF)
    digest.update(segment)
    return digest.digest()


def leaves(payload: bytes | memoryview) -> list[bytes]:
    """Leaf hashes of all segments."""
    return [leaf(segment) for segment in split(payload)]


def merkle_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root over leaf hashes, 32 bytes; `root` of an update's signed header."""
    if not leaf_hashes:
        return hashlib.sha256().digest()
    level = list(leaf_hashes)
    while len(level) > 1:
        paired = [hashlib.sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def payload_root(payload: bytes | memoryview) -> bytes:
    """Root of a whole payload."""
    return merkle_root(leaves(payload))
