"""The Merkle tree over a payload's segments (RFC 9162)."""

from __future__ import annotations

import pytest
from blake3 import blake3
from covey_exchange import segments
from covey_exchange.segments import SEGMENT_BYTES
from hypothesis import given
from hypothesis import strategies as st


def rfc_root(leaf_hashes: list[bytes]) -> bytes:
    """The recursive definition of the RFC."""
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    k = 1 << ((len(leaf_hashes) - 1).bit_length() - 1)
    both = rfc_root(leaf_hashes[:k]) + rfc_root(leaf_hashes[k:])
    return blake3(both, derive_key_context="covey.dev v1alpha1 update segments").digest()


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_root_is_that_of_the_rfc(leaf_hashes: list[bytes]) -> None:
    assert segments.merkle_root(leaf_hashes) == rfc_root(leaf_hashes)


def test_a_node_is_no_leaf() -> None:
    left, right = segments.leaf(b"a"), segments.leaf(b"b")
    assert segments.merkle_root([left, right]) != segments.leaf(left + right)


@pytest.mark.parametrize("length", [0, 1, 2**16, 2**16 + 1, SEGMENT_BYTES, 2 * SEGMENT_BYTES - 1, 3 * SEGMENT_BYTES])
def test_segments_cover_the_payload(length: int) -> None:
    payload = bytes(length)
    parts = list(segments.split(payload))
    assert len(parts) == segments.count(length)
    assert all(len(part) == segments.bytes_each(length) for part in parts[:-1])
    assert b"".join(parts) == payload


def test_any_change_changes_the_root() -> None:
    payload = bytearray(2 * SEGMENT_BYTES + 5)
    root = segments.payload_root(bytes(payload))
    for index in (0, SEGMENT_BYTES, 2 * SEGMENT_BYTES + 4):
        payload[index] ^= 1
        assert segments.payload_root(bytes(payload)) != root
        payload[index] ^= 1
    assert segments.payload_root(bytes(payload) + b"\0") != root
