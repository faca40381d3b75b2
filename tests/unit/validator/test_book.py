"""Credits and penalties from round to round: never above the bounty, never taken back, the same for everybody."""

from __future__ import annotations

from dataclasses import replace

import pytest
from covey_chain.penalties import decode
from covey_validator.incentives.book import Book, no_less
from covey_validator.incentives.geometry import Gram
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.members import Standing
from covey_validator.incentives.terms import NO_APPEALS, NO_DEADLINE, Rule
from covey_validator.scoring import NANO, Scores
from hypothesis import given
from hypothesis import strategies as st
from round_bus import addresses, gram

A, B, C, D = SITES = addresses(4)
PLACES = {A: 2, B: 1, C: 3, D: 0}  # the contract lists them in the order in which they came
STAKES = dict.fromkeys(SITES, 10**6)
RULE = Rule(epoch_rounds=2, steps=2, appeal_rounds=NO_APPEALS)
BOUNTY = 10**9


def facts(without: dict[str, int]) -> RoundFacts:
    """Everybody judges alike: the candidate has a loss of 1, and this much without each site."""
    return RoundFacts(frozenset(without), dict.fromkeys(SITES, Scores(2 * NANO, NANO, without)))


HELPFUL = dict.fromkeys(SITES, 11 * NANO // 10)


def play(rounds: list[RoundFacts], rule: Rule = RULE, moved: Gram | None = None) -> list[Book]:
    books = [Book.open(rule, STAKES, PLACES, BOUNTY, len(rounds))]
    for number, each in enumerate(rounds, 1):
        books.append(books[-1].after(number, each, True, moved or gram(SITES, True)))
    return books[1:]


def test_an_epoch_credits_half_and_the_end_pays_the_rest():
    credited = [sum(book.credited.values()) for book in play([facts(HELPFUL)] * 8)]
    assert credited == [0, BOUNTY // 8, BOUNTY // 8, BOUNTY // 4, BOUNTY // 4, 3 * BOUNTY // 8, 3 * BOUNTY // 8, BOUNTY]


def test_who_harms_is_held_removed_and_slashed_step_by_step():
    harmful = facts({**HELPFUL, D: 9 * NANO // 10})
    first, second, *_, last = (play([harmful] * 8)[i] for i in (1, 3, 5, 7))
    assert first.penalties()[D].held == 5_000
    assert not first.penalties()[D].removed
    assert first.credited[D] == 0, "while something is held nothing is credited"
    assert second.penalties()[D].removed
    assert (second.penalties()[D].held, second.penalties()[D].slashed) == (0, 15_000), "nobody can appeal here"
    assert D not in second.active
    assert last.penalties().keys() == {D}
    assert (last.credited[D], sum(last.credited.values())) == (0, BOUNTY - BOUNTY % 3)
    assert "removed in epoch 2" in last.words(D)


def test_without_an_auditor_the_words_promise_no_appeal():
    book = play([facts({**HELPFUL, D: 9 * NANO // 10})] * 4)[1]
    assert "appeal" not in book.words(D)
    assert "0.5 % of stake" in book.words(D)


def test_what_is_held_at_the_end_is_slashed_unless_an_appeal_may_still_come():
    harmful = [facts({**HELPFUL, D: 9 * NANO // 10})] * 2
    assert play(harmful)[-1].penalties()[D].slashed == 5_000
    appealable = play(harmful, replace(RULE, appeal_rounds=5))[-1].penalties()[D]
    assert (appealable.held, appealable.slashed, appealable.appealing) == (5_000, 0, True)


def test_where_an_auditor_decides_nothing_is_burnt_before_its_word():
    rule = replace(RULE, appeal_rounds=NO_DEADLINE)
    books = play([facts({**HELPFUL, D: 9 * NANO // 10})] * 8, rule)
    assert all(book.penalties()[D].slashed == 0 for book in books[1:])
    end = books[-1].penalties()[D]
    assert (end.held, end.removed, end.appealing) == (15_000, True, True)
    assert "an auditor decides" in books[-1].words(D)
    different = play([facts({**HELPFUL, D: NANO + 4 * NANO // 100})] * 2, rule)[-1]
    assert different.decisions[D].standing is Standing.DIVERGENT
    assert different.penalties()[D].held == 0, "nobody must appeal to get back what was held for being different"


def test_the_rest_of_a_task_is_paid_for_and_not_judged():
    book = play([facts({**HELPFUL, D: 9 * NANO // 10})])[-1]
    assert not book.penalties()
    assert sum(book.credited.values()) == BOUNTY


def test_in_shadow_nothing_is_held():
    book = play([facts({**HELPFUL, D: 9 * NANO // 10})] * 4, replace(RULE, shadow_epochs=9))[1]
    assert not book.penalties()
    assert "would have been" in book.words(D)


def test_an_epoch_needs_inner_products():
    with pytest.raises(ValueError, match="epoch ends"):
        Book.open(RULE, STAKES, PLACES, BOUNTY, 4).after(2, facts(HELPFUL), True)


def test_penalties_have_the_places_of_the_contract():
    book = play([facts({**HELPFUL, D: 9 * NANO // 10})] * 2)[-1]
    assert decode(book.ledger()) == list(book.penalties().values())
    assert [penalty.place for penalty in book.penalties().values()] == [0]
    both = play([facts({**HELPFUL, A: 9 * NANO // 10, D: 9 * NANO // 10})] * 2)[-1]
    assert [penalty.place for penalty in decode(both.ledger())] == [0, 2]
    assert play([facts(HELPFUL)] * 2)[-1].ledger() == b""


rounds = st.lists(
    st.dictionaries(st.sampled_from(SITES), st.integers(0, 2 * NANO), min_size=1).map(facts), min_size=1, max_size=9
)
entries = st.lists(st.integers(-(10**6), 10**6), min_size=4, max_size=4)


@st.composite
def movements(draw: st.DrawFn) -> Gram:
    vectors = [draw(entries) for _ in SITES]
    return Gram(
        tuple(SITES), tuple(tuple(sum(x * y for x, y in zip(a, b, strict=True)) for b in vectors) for a in vectors)
    )


@given(rounds, movements())
def test_credits_never_shrink_nor_exceed_the_bounty_and_no_penalty_exceeds_the_stake(
    played: list[RoundFacts], moved: Gram
):
    before = dict.fromkeys(SITES, 0)
    slashed = dict.fromkeys(SITES, 0)
    for book in play(played, moved=moved):
        assert all(book.credited[site] >= before[site] for site in SITES)
        assert sum(book.credited.values()) <= BOUNTY
        before = dict(book.credited)
        for site, penalty in book.penalties().items():
            assert penalty.slashed >= slashed[site]
            assert penalty.held >= 0
            assert penalty.held + penalty.slashed <= STAKES[site]
            slashed[site] = penalty.slashed


amounts = st.lists(st.integers(0, 10**6), min_size=4, max_size=4).map(
    lambda found: dict(zip(SITES, found, strict=True))
)


@given(amounts, amounts, st.integers(0, 10**6))
def test_nobody_gets_less_than_its_floor_and_together_no_more_than_the_pool(
    wanted: dict[str, int], floor: dict[str, int], spare: int
):
    pool = max(sum(wanted.values()), sum(floor.values())) + spare
    shares = no_less(pool, wanted, floor)
    assert all(shares[site] >= floor[site] for site in SITES)
    assert sum(shares.values()) <= pool
