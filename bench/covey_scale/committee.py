"""Sampled committees: who votes in a round, and how likely it is that too many of them lie. Not built in production."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from scipy.stats import binom, hypergeom


def sample(stakes: Mapping[str, int], seats: int, seed: bytes) -> dict[str, int]:
    """Seats by member, drawn by stake with replacement; anybody can repeat it from a public seed.

    Args:
        stakes: base units by address.
        seats: how many; a member may get more than one, and then has as many votes.
        seed: 32 bytes that nobody could choose, such as the hash of a block after the last round's result.
    """
    members = sorted(stakes.items(), key=lambda item: item[0].lower())
    total = sum(stakes.values())
    drawn: dict[str, int] = {}
    for seat in range(seats):
        digest = hashlib.sha256(seed + seat.to_bytes(4, "big")).digest()
        point = int.from_bytes(digest, "big") * total >> 256
        for member, stake in members:
            point -= stake
            if point < 0:
                drawn[member] = drawn.get(member, 0) + 1
                break
    return drawn


def failure(seats: int, lying: float) -> float:
    """Probability that at least a third of the seats lies, so that no quorum of the honest is left.

    Args:
        seats: of one committee, drawn by stake.
        lying: share of all stake that lies.
    """
    return float(binom.sf(_enough(seats) - 1, seats, lying))


def failure_of_members(seats: int, members: int, liars: int) -> float:
    """The same for members with equal stakes, each of whom gets one seat at most."""
    return float(hypergeom.sf(_enough(seats) - 1, members, liars, seats))


def seats_for(lying: float, limit: float) -> int:
    """The smallest committee (in steps of 3) whose probability to fail is below a limit."""
    return next(seats for seats in range(3, 100_000, 3) if failure(seats, lying) < limit)


def _enough(seats: int) -> int:
    return -(-seats // 3)
