"""Who earns which part of the bounty; integers only, so that every site computes the same tree.

A round's pool is split by standing: the help that a member has given in all rounds so far. One round's help is mostly
noise of small holdouts, and goes to nothing when the model has learnt what there is to learn; the sum over rounds tells
who brought it there. Held penalties would take their part of what `shares` returns, before it is accumulated.
"""

from __future__ import annotations

from collections.abc import Mapping

CREDIT_LIMIT = 2  # medians of the round's members: what anybody's standing counts for at most


def round_pool(bounty: int, rounds: int) -> int:
    """What one round can pay, in base units; the rest of the division stays with the planner."""
    return bounty // rounds


def shares(pool: int, standing: Mapping[str, int]) -> dict[str, int]:
    """Split a round's pool by standing.

    Args:
        pool: base units.
        standing: included site -> nano-loss by which it has helped so far, this round with it; may be negative.

    Returns:
        Site -> base units, rounded down. In proportion to positive standing, of which at most twice the (lower) median
        counts, unless that is 0; equal shares if nobody's standing is positive.
    """
    credit = {site: max(0, value) for site, value in standing.items()}
    limit = CREDIT_LIMIT * sorted(credit.values())[(len(credit) - 1) // 2]
    if limit:
        credit = {site: min(value, limit) for site, value in credit.items()}
    total = sum(credit.values())
    if total == 0:
        return {site: pool // len(credit) for site in credit}
    return {site: pool * value // total for site, value in credit.items()}


def accumulate(before: Mapping[str, int], gained: Mapping[str, int]) -> dict[str, int]:
    """All participants' sums (of rewards, of help) after a round."""
    return {site: amount + gained.get(site, 0) for site, amount in before.items()}
