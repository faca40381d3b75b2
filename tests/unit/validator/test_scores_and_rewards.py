"""Scores, medians, shares and the verdict: integers, the same for everybody, never more than the pool."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import pytest
from covey_chain.merkle import RewardTree
from covey_validator import rewards, scoring, selection
from covey_validator.scoring import LOSS_LIMIT, Scores, ScoresError
from covey_validator.verdict import Ledger, conclude
from hypothesis import given
from hypothesis import strategies as st
from round_bus import BASE, TASK, addresses

A, B, C, D = addresses(4)
losses = st.integers(-LOSS_LIMIT, LOSS_LIMIT)
standings = st.dictionaries(st.sampled_from(addresses(16)), losses, min_size=1)


@pytest.mark.parametrize(
    ("loss_sum", "examples", "nano"),
    [
        (50.0, 100, 500_000_000),
        (1e-9, 1, 1),
        (-3.0, 2, -1_500_000_000),
        (math.nan, 5, LOSS_LIMIT),
        (math.inf, 5, LOSS_LIMIT),
        (-math.inf, 5, LOSS_LIMIT),
        (1e300, 1, LOSS_LIMIT),
        (-1e300, 1, -LOSS_LIMIT),
    ],
)
def test_losses_become_integers_and_nonsense_is_worse_than_anything(loss_sum: float, examples: int, nano: int):
    assert scoring.nano_loss(loss_sum, examples) == nano


def test_a_loss_of_no_examples_is_refused():
    with pytest.raises(ValueError, match="at least one example"):
        scoring.nano_loss(0.0, 0)


@pytest.mark.parametrize(
    ("values", "median"),
    [
        ([], None),
        ([(5, 0)], None),
        ([(5, 1)], 5),
        ([(1, 1), (9, 1)], 1),
        ([(1, 1), (2, 1), (9, 1)], 2),
        ([(1, 10), (2, 1), (9, 1)], 1),
        ([(1, 1), (2, 1), (9, 10)], 9),
        ([(9, 3), (1, 3)], 1),
    ],
)
def test_the_lower_weighted_median(values: list[tuple[int, int]], median: int | None):
    assert scoring.weighted_median(values) == median


@given(st.lists(st.tuples(losses, st.integers(0, 10**24)), min_size=1), st.randoms())
def test_the_median_depends_on_no_order_and_is_one_of_the_values(values: list[tuple[int, int]], random: object):
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    median = scoring.weighted_median(values)
    assert scoring.weighted_median(shuffled) == median
    assert median is None or median in [value for value, _ in values]


@pytest.mark.parametrize(
    ("gains", "accepted"),
    [
        ({A: 10, B: 10, C: 10}, True),
        ({A: 0, B: 0, C: 0}, True),
        ({A: -10, B: -10, C: -10}, True),  # exactly one per cent of 1000
        ({A: -11, B: -11, C: -11}, False),
        ({A: -500, B: 10, C: 10}, True),  # one voice alone decides nothing
        ({A: -500, B: -500, C: 10}, False),
        ({}, False),
    ],
)
def test_a_round_stands_unless_the_median_is_worse_than_the_margin(gains: dict[str, int], accepted: bool):
    scores = {site: Scores(1000, 1000 - gain, {}) for site, gain in gains.items()}
    assert scoring.is_improvement(scores, dict.fromkeys((A, B, C), 1), Fraction(1, 100)) is accepted


def test_nobody_judges_itself():
    scores = {
        A: Scores(1000, 100, {A: 10_000, B: 150}),
        B: Scores(1000, 100, {A: 130, B: 10_000}),
        C: Scores(1000, 100, {A: 120, B: 170}),
    }
    assert scoring.helpfulness(scores, {A: 1, B: 1, C: 1}, [A, B]) == {A: 30, B: 70}


@pytest.mark.parametrize(
    ("said", "helped"),
    [
        ([-50, 70], 70),  # harm counts only if judges with 60 % of the stake see it
        ([-50, -70], -50),
        ([10, 20, 30], 20),
        ([10, 20, 30, 40], 30),
        ([-9, -9, -9, 40, 40], -9),
        ([-9, -9, 40, 40, 40], 40),
    ],
)
def test_help_is_what_sixty_per_cent_of_the_judging_stake_agrees_on(said: list[int], helped: int):
    site, *judges = addresses(len(said) + 1)
    scores = {judge: Scores(1000, 100, {site: 100 + h}) for judge, h in zip(judges, said, strict=True)}
    assert scoring.helpfulness(scores, dict.fromkeys(judges, 1), [site]) == {site: helped}


@pytest.mark.parametrize(("said", "helped"), [(LOSS_LIMIT, 1000), (-LOSS_LIMIT, -1000)])
def test_no_judge_can_claim_more_help_than_there_was_loss(said: int, helped: int):
    scores = {B: Scores(1000, 0, {A: said}), C: Scores(1000, 0, {A: said})}
    assert scoring.helpfulness(scores, {B: 1, C: 1}, [A]) == {A: helped}


def test_a_site_that_nobody_else_judged_has_helped_by_nothing():
    assert scoring.helpfulness({A: Scores(5, 0, {A: 9})}, {A: 1}, [A]) == {A: 0}


@given(losses, losses, st.dictionaries(st.sampled_from(addresses(8)), losses))
def test_scores_survive_their_bytes(base: int, candidate: int, without: dict[str, int]):
    scores = Scores(base, candidate, without)
    assert Scores.decode(scores.encode(), without) == scores


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:16] + d[44:] + d[16:44]])
def test_other_bytes_than_the_canonical_ones_are_no_scores(damage: object):
    data = Scores(1, 2, {A: 3, B: 4}).encode()
    with pytest.raises(ScoresError):
        Scores.decode(damage(data), [A, B])  # type: ignore[operator]


def test_scores_of_other_sites_or_beyond_the_limit_are_refused():
    with pytest.raises(ScoresError, match="ascending"):
        Scores.decode(Scores(1, 2, {A: 3}).encode(), [B])
    with pytest.raises(ScoresError, match="limit"):
        Scores.decode(Scores(LOSS_LIMIT + 1, 2, {A: 3}).encode(), [A])


@pytest.mark.parametrize(
    ("pool", "standing", "shares"),
    [
        (900, {A: 1, B: 1, C: 1}, {A: 300, B: 300, C: 300}),
        (900, {A: 2, B: 1, C: 0}, {A: 600, B: 300, C: 0}),
        (900, {A: 50, B: 2, C: 1}, {A: 514, B: 257, C: 128}),  # counts as twice the median
        (900, {A: 5, B: -7}, {A: 900, B: 0}),
        (100, {A: 0, B: -1, C: 0}, {A: 33, B: 33, C: 33}),
        (10, {A: 1, B: 1, C: 1}, {A: 3, B: 3, C: 3}),
        (0, {A: 1}, {A: 0}),
    ],
)
def test_shares_follow_standing(pool: int, standing: dict[str, int], shares: dict[str, int]):
    assert rewards.shares(pool, standing) == shares


@given(st.integers(0, 10**30), standings)
def test_shares_are_integers_within_the_pool(pool: int, standing: dict[str, int]):
    shares = rewards.shares(pool, standing)
    assert all(isinstance(share, int) and share >= 0 for share in shares.values())
    assert sum(shares.values()) <= pool
    assert sum(shares.values()) > pool - len(standing)


@given(st.integers(0, 10**30), standings, st.randoms())
def test_shares_depend_on_no_order(pool: int, standing: dict[str, int], random: object):
    items = list(standing.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert rewards.shares(pool, dict(items)) == rewards.shares(pool, standing)


@given(st.integers(0, 10**30), standings, st.data())
def test_more_help_never_earns_less(pool: int, standing: dict[str, int], data: st.DataObject):
    site = data.draw(st.sampled_from(sorted(standing)))
    more = data.draw(st.integers(0, LOSS_LIMIT))
    before, after = rewards.shares(pool, standing), rewards.shares(pool, standing | {site: standing[site] + more})
    assert after[site] >= before[site] or max(standing.values()) <= 0, "only where nobody helped all are paid alike"


@given(st.integers(0, 10**30), standings)
def test_who_has_helped_more_earns_no_less_and_who_never_has_earns_nothing(pool: int, standing: dict[str, int]):
    shares = rewards.shares(pool, standing)
    ranked = sorted(standing, key=lambda site: standing[site])
    assert [shares[site] for site in ranked] == sorted(shares.values())
    if max(standing.values()) > 0:
        assert all(shares[site] == 0 for site in standing if standing[site] <= 0)


@given(st.integers(0, 10**30), st.dictionaries(st.sampled_from(addresses(16)), st.integers(1, LOSS_LIMIT), min_size=3))
def test_no_helper_earns_more_than_twice_the_median_share(pool: int, standing: dict[str, int]):
    shares = sorted(rewards.shares(pool, standing).values())
    assert shares[-1] <= 2 * (shares[(len(shares) - 1) // 2] + 1)


def test_equal_members_earn_about_equally_though_each_round_is_mostly_noise():
    random = Random(1)
    standing, earned = dict.fromkeys((A, B, C), 0), dict.fromkeys((A, B, C), 0)
    for number in range(20):
        helped = {site: round(1000 * 0.7**number + random.gauss(0, 100)) for site in standing}
        standing = rewards.accumulate(standing, helped)
        earned = rewards.accumulate(earned, rewards.shares(100, standing))
    assert max(earned.values()) < 1.3 * min(earned.values())


@given(st.integers(0, 10**30), st.integers(1, 10**5))
def test_all_rounds_together_pay_no_more_than_the_bounty(bounty: int, rounds: int):
    assert rewards.round_pool(bounty, rounds) * rounds <= bounty


def verdict(candidate: int, cumulative: dict[str, int] | None = None, standing: dict[str, int] | None = None):
    nothing = dict.fromkeys((A, B, C), 0)
    ledger = Ledger(dict.fromkeys((A, B, C), 10), Fraction(0), 600, cumulative or nothing, standing or nothing)
    scores = {site: Scores(1000, candidate, {A: 1000, B: 900}) for site in (A, B, C)}
    return conclude(TASK, 3, False, ledger, (A, B), (BASE, b"\x11" * 32), (bytes(32), bytes(32)), scores)


def test_an_accepted_round_pays_on_top_of_what_was_earned():
    found = verdict(800, {A: 5, B: 6, C: 7})
    assert found.cumulative == {A: 5 + 400, B: 6 + 200, C: 7}
    assert found.result.total_reward == 618
    assert found.result.reward_root == RewardTree(found.cumulative, TASK).root
    assert (found.result.model_digest, found.loss) == (b"\x11" * 32, 800)


def test_help_of_earlier_rounds_counts_and_who_is_absent_is_not_paid():
    found = verdict(800, standing={A: -100, B: 0, C: 5000})
    assert found.standing == {A: 100, B: 100, C: 5000}
    assert found.cumulative == {A: 300, B: 300, C: 0}


def test_a_discarded_round_leaves_model_and_rewards_as_they_were():
    found = verdict(1100, {A: 5, B: 6, C: 7})
    assert (found.result.accepted, found.result.model_digest, found.loss) == (False, BASE, 1000)
    assert found.cumulative == {A: 5, B: 6, C: 7}
    assert found.standing == {A: -100, B: -200, C: 0}, "but what it would have done to the model is remembered"


@given(st.dictionaries(st.sampled_from(addresses(8)), st.binary(min_size=32, max_size=32), min_size=1))
def test_a_selection_survives_its_bytes(entries: dict[str, bytes]):
    assert selection.decode(selection.encode(entries)) == entries


@pytest.mark.parametrize("data", [b"", b"x" * 51, selection.encode({A: bytes(32)}) * 2])
def test_other_bytes_are_no_selection(data: bytes):
    with pytest.raises(selection.SelectionError):
        selection.decode(data)
