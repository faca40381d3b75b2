"""When a task has learnt what there is to learn, and what the end before its last round does."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from covey_validator.incentives.book import Book
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.terms import Rule
from covey_validator.plateau import Plateau
from covey_validator.scoring import Scores
from covey_validator.verdict import Ledger, conclude
from hypothesis import given
from hypothesis import strategies as st
from round_bus import addresses, gram

SITES = addresses(3)
STAKES = dict.fromkeys(SITES, 10)
PLACES = {site: place for place, site in enumerate(SITES)}
BOUNTY = 3000
losses = st.one_of(st.none(), st.integers(0, 9))


@given(st.lists(st.tuples(losses, losses)), st.integers(1, 5))
def test_a_task_ends_with_the_first_round_after_which_so_many_found_no_new_low(
    rounds: list[tuple[int | None, int | None]], patience: int
):
    plateau = Plateau(patience)
    lowest, since = None, 0
    for base, left in rounds:
        if lowest is None:
            lowest = base
        better = left is not None and (lowest is None or left < lowest)
        lowest, since = (left, 0) if better else (lowest, since + 1)
        plateau = plateau.after(base, left)
        assert (plateau.best, plateau.is_over) == (lowest, since >= patience)


@given(st.lists(st.tuples(losses, losses)))
def test_without_patience_all_rounds_are_played(rounds: list[tuple[int | None, int | None]]):
    plateau = Plateau()
    for base, left in rounds:
        plateau = plateau.after(base, left)
        assert not plateau.is_over


def facts(base: int, candidate: int) -> RoundFacts:
    """All judge alike, and everybody helped."""
    return RoundFacts(frozenset(SITES), dict.fromkeys(SITES, Scores(base, candidate, dict.fromkeys(SITES, base))))


def play(patience: int | None, count: int, *candidates: int) -> list[tuple[bool, Book]]:
    """Whether each round's result is the last one, and the book after it; a worse candidate is discarded."""
    ledger = Ledger(STAKES, Fraction(0), Book.open(Rule(), STAKES, PLACES, BOUNTY, count, None, patience))
    found, base = [], 1000
    for number, candidate in enumerate(candidates, 1):
        at, roots = (bytes(32), bytes(32)), (bytes(32), bytes(32))
        verdict = conclude(bytes(32), number, ledger, facts(base, candidate), at, roots, gram(SITES, True))
        found.append((verdict.result.last, verdict.book))
        ledger, base = replace(ledger, book=verdict.book), min(base, candidate)
    return found


@pytest.mark.parametrize(
    ("patience", "candidates", "ends"),
    [
        (2, (900, 800, 800, 850), [False, False, False, True]),
        (2, (900, 950, 800, 800), [False, False, False, False]),
        (1, (1000,), [True]),
        (None, (900, 900, 900, 900, 900, 900), [False, False, False, False, False, True]),
        (9, (900, 900, 900, 900, 900, 900), [False, False, False, False, False, True]),
    ],
)
def test_discarded_rounds_and_equal_losses_are_no_better(
    patience: int | None, candidates: tuple[int, ...], ends: list[bool]
):
    assert [last for last, _ in play(patience, 6, *candidates)] == ends


def test_an_end_before_the_last_round_pays_all_and_judges_only_whole_epochs():
    (*_, (_, before), (last, book)) = play(2, 100, *[1000 - n for n in range(5)], 1000, 1000)
    assert last
    assert sum(before.credited.values()) == BOUNTY * 5 // (2 * 100)
    assert sum(book.credited.values()) == BOUNTY
    assert book.settled.keys() == set(SITES)
    assert book.state.epoch == 1


def test_a_round_that_ends_the_task_needs_inner_products_as_an_epoch_does():
    book = Book.open(Rule(), STAKES, PLACES, BOUNTY, 100, None, 1)
    assert book.closes(1, facts(10, 10), True)
    assert not book.closes(1, facts(10, 9), True)
    assert book.closes(1, facts(10, 9), False), "what was discarded makes no model better"
