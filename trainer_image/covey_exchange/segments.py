"""Payloads as 1 MiB segments under a Merkle root, so that each is checked the moment it arrives.

The tree has the shape of RFC 9162, section 2.1: a node is the hash of its children, a lone last node moves up
unchanged. The hash is BLAKE3 (ADR 0009 says why). Where the RFC puts a byte before leaves and another before nodes, it
has a context for each: a byte would shift what follows off the boundaries at which it is fast. The root of an empty
payload is the leaf of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

SEGMENT_BYTES = 2**20
_LEAF, _NODE = "covey.dev v1alpha1 update segment", "covey.dev v1alpha1 update segments"


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


def leaf_hasher() -> blake3:
    """Takes a segment piece by piece, and gives its leaf hash."""
    return blake3(derive_key_context=_LEAF)


def leaf(segment: bytes | memoryview) -> bytes:
    """Leaf hash of one segment, 32 bytes."""
    return leaf_hasher().update(segment).digest()


def leaves(payload: bytes | memoryview) -> list[bytes]:
    """Leaf hashes of all segments."""
    return [leaf(segment) for segment in split(payload)]


def merkle_root(leaf_hashes: Sequence[bytes]) -> bytes:
    """Root over leaf hashes, 32 bytes; `root` of an update's signed header."""
    if not leaf_hashes:
        return leaf(b"")
    level = list(leaf_hashes)
    while len(level) > 1:
        paired = [node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]


def node(left: bytes, right: bytes) -> bytes:
    """Hash of two hashes next to each other, 32 bytes."""
    return blake3(left + right, derive_key_context=_NODE).digest()


def payload_root(payload: bytes | memoryview) -> bytes:
    """Root of a whole payload."""
    return merkle_root(leaves(payload))
