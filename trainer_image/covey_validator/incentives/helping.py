"""Who helped whom in an epoch: judges' paired holdout losses, summed over rounds, and their quantiles by stake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from covey_validator.incentives.terms import Rule
from covey_validator.scoring import Scores, weighted_median, weighted_quantile


@dataclass(frozen=True)
class RoundFacts:
    """What is certified of a round; a discarded one counts like an accepted one.

    Attributes:
        included: sites whose updates counted.
        scores: judge -> its scores, agreed by certificate; those that abstained are left out.
        copies: included sites whose update repeats what was public before (`copies.copied`).
    """

    included: frozenset[str]
    scores: Mapping[str, Scores]
    copies: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Helped:
    """One site's epoch.

    Attributes:
        attended: rounds in which its update counted; judged in them alone.
        help: nano-loss that it saved the judges in these rounds; the quantile that the rule names.
        loss: median nano-loss with which these rounds began, summed.
        yardstick: nano-loss that a typical site saved in as many rounds; at least 0.
        copies: rounds in which it sent a copy.
    """

    attended: int
    help: int
    loss: int
    yardstick: int
    copies: int

    @property
    def is_copying(self) -> bool:
        """Whether more than half of its updates were copies."""
        return 2 * self.copies > self.attended


def helped(rule: Rule, rounds: Sequence[RoundFacts], stakes: Mapping[str, int]) -> dict[str, Helped]:
    """Judge an epoch.

    Args:
        rule: parameters.
        rounds: of the epoch, in any order.
        stakes: members that are not removed -> stake; weights of judges.

    Returns:
        Site -> its epoch, for every member with an update in it.
    """
    losses = [abs(weighted_median((s.base, stakes.get(j, 0)) for j, s in each.scores.items()) or 0) for each in rounds]
    found: dict[str, tuple[int, int, int]] = {}
    copied: dict[str, int] = {}
    for site in sorted({site for each in rounds for site in each.included} & stakes.keys()):
        at = [(each, loss) for each, loss in zip(rounds, losses, strict=True) if site in each.included]
        votes = [(saved, stakes[judge]) for judge, saved in _saved(site, at, stakes).items()]
        found[site] = (len(at), weighted_quantile(votes, rule.help_quantile) or 0, sum(loss for _, loss in at))
        copied[site] = sum(site in each.copies for each, _ in at)
    typical = _quantile((usual * len(rounds) // n for n, usual, _ in found.values()), rule.yardstick_quantile)
    return {
        site: Helped(n, usual, loss, max(0, typical) * n // len(rounds), copied[site])
        for site, (n, usual, loss) in found.items()
    }


def _saved(site: str, at: Sequence[tuple[RoundFacts, int]], stakes: Mapping[str, int]) -> dict[str, int]:
    """Judge -> nano-loss that the site saved it; rounds that a judge missed count as the mean of those it scored.

    Nothing in a round counts for more than the loss that it began with, so a judge whose model diverged, or who claims
    the sky, is one vote and no more.
    """
    saved: dict[str, int] = {}
    seen: dict[str, int] = {}
    for each, limit in at:
        for judge, scores in each.scores.items():
            if judge != site and judge in stakes:
                difference = scores.without[site] - scores.candidate
                saved[judge] = saved.get(judge, 0) + max(-limit, min(limit, difference))
                seen[judge] = seen.get(judge, 0) + 1
    return {judge: total * len(at) // seen[judge] for judge, total in saved.items()}


def _quantile(values: Iterable[int], share: Fraction) -> int:
    return weighted_quantile(((value, 1) for value in values), share) or 0
