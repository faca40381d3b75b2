"""Scores, medians and the verdict: integers, the same for everybody, never more than the pool."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from covey_chain.merkle import RewardTree
from covey_validator import scoring, selection
from covey_validator.incentives.book import Book
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.terms import Rule
from covey_validator.scoring import LOSS_LIMIT, Scores, ScoresError
from covey_validator.verdict import Ledger, conclude
from hypothesis import given
from hypothesis import strategies as st
from round_bus import BASE, TASK, addresses, gram

A, B, C, D = addresses(4)
losses = st.integers(-LOSS_LIMIT, LOSS_LIMIT)


heights = st.dictionaries(st.sampled_from([A, B, C, D]), st.integers(0, 100), min_size=1)


@given(heights, st.fixed_dictionaries({site: st.integers(1, 100) for site in (A, B, C, D)}))
def test_more_than_two_thirds_of_the_judges_stake_have_read_the_agreed_block(
    read: dict[str, int], stakes: dict[str, int]
):
    scores = {site: Scores(1, 1, {}, height) for site, height in read.items()}
    agreed = scoring.height_of(scores, stakes)

    def stake_at(height: int) -> int:
        return sum(stakes[site] for site, seen in read.items() if seen >= height)

    total = sum(stakes[site] for site in read)
    assert 3 * stake_at(agreed) > 2 * total
    assert 3 * stake_at(agreed + 1) <= 2 * total, "and no later one"


def test_nobody_has_read_a_chain_without_judges():
    assert scoring.height_of({}, {A: 1}) == 0


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


@given(losses, losses, st.dictionaries(st.sampled_from(addresses(8)), losses))
def test_scores_survive_their_bytes(base: int, candidate: int, without: dict[str, int]):
    scores = Scores(base, candidate, without)
    assert Scores.decode(scores.encode(), without) == scores


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: d[:16] + d[44:] + d[16:44]])
def test_other_bytes_than_the_canonical_ones_are_no_scores(damage: object):
    data = Scores(1, 2, {A: 3, B: 4}, 5).encode()
    with pytest.raises(ScoresError):
        Scores.decode(damage(data), [A, B])  # type: ignore[operator]


def test_scores_of_other_sites_or_beyond_the_limit_are_refused():
    with pytest.raises(ScoresError, match="ascending"):
        Scores.decode(Scores(1, 2, {A: 3}).encode(), [B])
    with pytest.raises(ScoresError, match="limit"):
        Scores.decode(Scores(LOSS_LIMIT + 1, 2, {A: 3}).encode(), [A])


RULE = Rule(epoch_rounds=1)
PLACES = {A: 0, B: 1, C: 2}
STAKES = dict.fromkeys((A, B, C), 10)


def verdict(candidate: int, book: Book):
    scores = {site: Scores(1000, candidate, {A: 1000, B: 900}) for site in (A, B, C)}
    ledger, facts = Ledger(STAKES, Fraction(0), book), RoundFacts(frozenset({A, B}), scores)
    models, roots = (BASE, b"\x11" * 32), (bytes(32), bytes(32))
    return conclude(TASK, 1, ledger, facts, models, roots, gram([A, B], True))


def test_an_epoch_credits_half_of_what_members_would_get_if_the_task_ended_now():
    found = verdict(800, Book.open(RULE, STAKES, PLACES, 4000, 2))
    assert found.book.credited == {A: 500, B: 500, C: 0}
    assert found.result.total_reward == 1000
    assert found.result.reward_root == RewardTree(found.book.credited, TASK).root
    assert (found.result.model_digest, found.loss) == (b"\x11" * 32, 800)


def test_what_was_credited_stays():
    found = verdict(800, replace(Book.open(RULE, STAKES, PLACES, 4000, 2), credited={A: 5, B: 600, C: 7}))
    assert found.book.credited == {A: 500, B: 600, C: 7}


def test_a_discarded_round_leaves_the_model_as_it_was_and_is_judged_all_the_same():
    found = verdict(1100, Book.open(RULE, STAKES, PLACES, 4000, 2))
    assert (found.result.accepted, found.result.model_digest, found.loss) == (False, BASE, 1000)
    assert found.book.state.epoch == 1


def test_scores_of_who_was_removed_count_no_more():
    book = Book.open(RULE, STAKES, PLACES, 4000, 2)
    gone = replace(book.state.accounts[C], removed=1)
    without = replace(book, state=replace(book.state, accounts={**book.state.accounts, C: gone}))
    ledger = Ledger(STAKES, Fraction(0), without)
    assert ledger.judges == {A: 10, B: 10}


@given(st.dictionaries(st.sampled_from(addresses(8)), st.binary(min_size=32, max_size=32), min_size=1))
def test_a_selection_survives_its_bytes(entries: dict[str, bytes]):
    assert selection.decode(selection.encode(entries)) == entries


@pytest.mark.parametrize("data", [b"", b"x" * 51, selection.encode({A: bytes(32)}) * 2])
def test_other_bytes_are_no_selection(data: bytes):
    with pytest.raises(selection.SelectionError):
        selection.decode(data)
