"""Payloads as segments under a Merkle root, so that each is checked, and handed on, the moment it arrives.

The tree has the shape of RFC 9162, section 2.1: a node is the hash of its children, a lone last node moves up
unchanged. The hash is BLAKE3 (ADR 0009 says why). Where the RFC puts a byte before leaves and another before nodes, it
has a context for each: a byte would shift what follows off the boundaries at which it is fast. The root of an empty
payload is the leaf of nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blake3 import blake3

SEGMENT_BYTES = 2**20
SMALL_BYTES = 2**16
_LEAF, _NODE = "covey.dev v1alpha1 update segment", "covey.dev v1alpha1 update segments"


def bytes_each(length: int) -> int:
    """Bytes of the segments of a payload of so many bytes, but for the last one.

    1 MiB; 64 KiB of a payload below 2 MiB, which would else be whole at each site before the next gets any of it.
    """
    return SEGMENT_BYTES if length >= 2 * SEGMENT_BYTES else SMALL_BYTES


def count(length: int) -> int:
    """Segments of a payload of so many bytes."""
    return -(-length // bytes_each(length))


def place(length: int, index: int) -> slice:
    """Where in a payload of so many bytes a segment is."""
    each = bytes_each(length)
    return slice(index * each, min((index + 1) * each, length))


def size(length: int, index: int) -> int:
    """Bytes of one segment."""
    return len(range(length)[place(length, index)])


def split(payload: bytes | memoryview) -> Iterator[memoryview]:
    """The segments of a payload, without copying."""
    view = memoryview(payload)
    return (view[place(len(view), index)] for index in range(count(len(view))))


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
