"""Who earns which part of the bounty; integers only, so that every site computes the same tree."""

from __future__ import annotations

from collections.abc import Mapping


def round_pool(bounty: int, rounds: int) -> int:
    """What one round can pay, in base units; the rest of the division stays with the planner."""
    return bounty // rounds


def shares(pool: int, helpfulness: Mapping[str, int]) -> dict[str, int]:
    """Split a round's pool by help.

    Args:
        pool: base units.
        helpfulness: included site -> nano-loss that the model would be worse without it.

    Returns:
        Site -> base units, rounded down. In proportion to positive help; equal shares if nobody's is positive.
    """
    positive = {site: max(0, value) for site, value in helpfulness.items()}
    total = sum(positive.values())
    if total == 0:
        return {site: pool // len(positive) for site in positive}
    return {site: pool * value // total for site, value in positive.items()}


def accumulate(cumulative: Mapping[str, int], earned: Mapping[str, int]) -> dict[str, int]:
    """Cumulative rewards of all participants after a round."""
    return {site: amount + earned.get(site, 0) for site, amount in cumulative.items()}
