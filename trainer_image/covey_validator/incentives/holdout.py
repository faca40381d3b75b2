"""A member binds itself to its holdout when it joins, and a public beacon draws the records that it must show.

A leaf is the hash of the record's index, a salt and the record; hash and tree are those of `covey_exchange.segments`.
The index is in the leaf and the number of records beside the root, so that a member cannot choose what is drawn; the
salt keeps a record from being guessed from its leaf.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from covey_exchange import segments
from eth_utils import to_canonical_address

SALT_BYTES = 32


class OpeningInvalid(ValueError):
    """Records that are not those that the beacon drew from what was committed to; says which."""


@dataclass(frozen=True)
class Commitment:
    """What a member publishes when it joins.

    Attributes:
        root: 32 bytes.
        records: how many lie under it.
    """

    root: bytes
    records: int


@dataclass(frozen=True)
class Opening:
    """One record, shown.

    Attributes:
        index: its place, from 0.
        salt: 32 bytes.
        record: canonical bytes; what they mean is the schema's matter.
        path: siblings from the leaf to the root.
    """

    index: int
    salt: bytes
    record: bytes
    path: tuple[bytes, ...]


class Holdout:
    """The member's side: its records under one root.

    Args:
        records: canonical bytes of each.
        secret: 32 bytes that only the member knows; every salt comes from it.
    """

    def __init__(self, records: Sequence[bytes], secret: bytes) -> None:
        if not records:
            raise ValueError("a holdout has at least one record")
        self._records, self._secret = list(records), secret
        self._layers = [[_leaf(i, self._salt(i), record) for i, record in enumerate(records)]]
        while len(self._layers[-1]) > 1:
            below = self._layers[-1]
            pairs = [below[i : i + 2] for i in range(0, len(below), 2)]
            self._layers.append([segments.node(*pair) if len(pair) == 2 else pair[0] for pair in pairs])

    @property
    def commitment(self) -> Commitment:
        """Root and number of records."""
        return Commitment(segments.merkle_root(self._layers[0]), len(self._records))

    def open(self, indices: Sequence[int]) -> list[Opening]:
        """Show records.

        Raises:
            IndexError: there is no such record.
        """
        return [Opening(i, self._salt(i), self._records[i], self._path(i)) for i in indices]

    def _salt(self, index: int) -> bytes:
        return hmac.digest(self._secret, index.to_bytes(8, "big"), "sha256")

    def _path(self, index: int) -> tuple[bytes, ...]:
        path = []
        for layer in self._layers[:-1]:
            sibling = index ^ 1
            if sibling < len(layer):
                path.append(layer[sibling])
            index //= 2
        return tuple(path)


def draw(beacon: bytes, site: str, commitment: Commitment, count: int) -> list[int]:
    """Which records a member must show: without repetition, ascending; all if there are no more than `count`.

    Args:
        beacon: public randomness that nobody knew when the member committed, or appealed.
        site: the member's address.
        commitment: the member's.
        count: how many.
    """
    drawn: set[int] = set()
    counter = 0
    seed = beacon + to_canonical_address(site) + commitment.root
    while len(drawn) < min(count, commitment.records):
        number = int.from_bytes(hashlib.sha256(seed + counter.to_bytes(8, "big")).digest(), "big")
        drawn.add(number % commitment.records)  # 256 bits: the bias is nothing
        counter += 1
    return sorted(drawn)


def check(openings: Sequence[Opening], drawn: Sequence[int], commitment: Commitment) -> list[bytes]:
    """The records of an opening, in the order drawn.

    Raises:
        OpeningInvalid: other records than those drawn, or not those under the root.
    """
    if [opening.index for opening in openings] != list(drawn):
        raise OpeningInvalid(f"records {list(drawn)} were drawn, {[opening.index for opening in openings]} were opened")
    for opening in openings:
        if _root(opening, commitment.records) != commitment.root:
            raise OpeningInvalid(f"record {opening.index} is not the one that was committed to")
    return [opening.record for opening in openings]


def _root(opening: Opening, records: int) -> bytes | None:
    node, index, width = _leaf(opening.index, opening.salt, opening.record), opening.index, records
    path = list(opening.path)
    if not 0 <= index < records or len(opening.salt) != SALT_BYTES:
        return None
    while width > 1:
        if index ^ 1 < width:
            if not path:
                return None
            sibling = path.pop(0)
            node = segments.node(node, sibling) if index % 2 == 0 else segments.node(sibling, node)
        index, width = index // 2, (width + 1) // 2
    return None if path else node


def _leaf(index: int, salt: bytes, record: bytes) -> bytes:
    return segments.leaf(index.to_bytes(8, "big") + salt + record)
