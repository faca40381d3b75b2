"""The bytes behind an agreed value: an ordered set of (site, digest), the same at every site.

52 bytes an entry, 20 of address and 32 of digest, ascending by address, one entry a site. The agreed value is their
keccak256; `updatesRoot` and `scoresRoot` of a result are these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from eth_utils import keccak, to_canonical_address, to_checksum_address

ENTRY_BYTES = 52


class SelectionError(ValueError):
    """Bytes that are no selection."""


def encode(entries: Mapping[str, bytes]) -> bytes:
    """Canonical bytes of site -> 32-byte digest."""
    return b"".join(sorted(to_canonical_address(site) + digest for site, digest in entries.items()))


def decode(data: bytes) -> dict[str, bytes]:
    """Site -> digest, ascending by address.

    Raises:
        SelectionError: not a multiple of 52 bytes, empty, or not strictly ascending.
    """
    if not data or len(data) % ENTRY_BYTES:
        raise SelectionError(f"a selection has 52 bytes for each site, not {len(data)} in all")
    entries = [data[start : start + ENTRY_BYTES] for start in range(0, len(data), ENTRY_BYTES)]
    if any(first[:20] >= second[:20] for first, second in pairwise(entries)):
        raise SelectionError("the sites of a selection must ascend")
    return {to_checksum_address(entry[:20]): entry[20:] for entry in entries}


def value(data: bytes) -> bytes:
    """What is voted on: keccak256 of the bytes."""
    return keccak(data)
