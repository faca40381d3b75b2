"""What the chain says of appeals counts as of an agreed block: it is the same at sites that have read other parts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from covey_chain.events import Event, EventKind
from covey_validator.clerk import taken
from covey_validator.incentives.appeal import Stage
from covey_validator.incentives.book import Book
from covey_validator.incentives.cases import EvidenceInvalid, on_set, pack, unpack
from covey_validator.incentives.docket import Deposition, Docket, Filed, Verdict
from covey_validator.incentives.evidence import Finding, Outcome
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.holdout import Commitment
from covey_validator.incentives.sources import Auditor, AuditSets
from covey_validator.incentives.terms import NO_DEADLINE, Rule
from covey_validator.scoring import NANO, Scores
from hypothesis import given
from hypothesis import strategies as st
from round_bus import addresses, gram

A, B, C, D = SITES = addresses(4)
STAKES = dict.fromkeys(SITES, 10**6)
PLACES = {site: place for place, site in enumerate(SITES)}
RULE = Rule(epoch_rounds=1, steps=3, appeal_rounds=NO_DEADLINE, answer_rounds=NO_DEADLINE)
BOUNTY = 10**9
ROOT, BEACON = b"\x05" * 32, b"\x0b" * 32
COMMITTED = Commitment(ROOT, 40)
GAINS = Finding(1, True, 9 * NANO, NANO, 0)


def numbers(epochs: int, root: bytes = ROOT, beacon: bytes = BEACON, own: int = NANO) -> bytes:
    case = on_set(bytes(32), D, 0, Commitment(root, 40))
    return pack(replace(case, beacon=beacon), [replace(GAINS, own=own)] * epochs)


def docket(*verdicts: Verdict, height: int = 100) -> Docket:
    return Docket(height, {D: COMMITTED}, {D: Filed(10, BEACON)}, verdicts)


def facts(here: frozenset[str] = frozenset(SITES), height: int = 0) -> RoundFacts:
    """D does harm; everybody has read the chain up to `height`."""
    without = {site: NANO * (98 if site == D else 120) // 100 for site in here}
    return RoundFacts(here, {judge: Scores(2 * NANO, NANO, without, height) for judge in here})


def play(said: Docket, heights: list[int], until: int | None = None) -> Book:
    """A task's epochs, each heard as of the block that its judges agree on."""
    book = Book.open(RULE, STAKES, PLACES, BOUNTY, len(heights), Auditor())
    for number, height in enumerate(heights[:until], 1):
        each = facts(book.active, height)
        book = book.after(number, each, True, gram(SITES, True), said.until(book.hears(each)))
    return book


REAL = Verdict(30, D, 1, True, numbers(1))


def test_a_verdict_counts_from_the_epoch_whose_judges_have_read_it():
    before, after = play(docket(REAL), [29] * 4, 2), play(docket(REAL), [29, 30, 30, 30], 2)
    assert before.state.accounts[D].appeal.stage is Stage.OPEN
    assert before.clips == {}
    assert after.state.accounts[D].outcome is Outcome.PROVEN
    assert after.clips == {D: 3}
    assert "it alone serves them" in after.words(D)


def test_who_was_removed_before_the_verdict_comes_back_and_is_paid_for_what_nobody_else_supplied():
    heights = [5, 5, 5, 30, 30, 30]
    removed, end = play(docket(REAL), heights, 3), play(docket(REAL), heights)
    assert D not in removed.active
    assert play(docket(REAL), heights, 4).active == frozenset(SITES)
    assert end.penalties()[D].slashed == 5_000
    assert "that nobody else supplied" in end.words(D)
    assert end.credited[D] > max(end.credited[site] for site in (A, B, C))
    assert "removed in epoch 3" in play(docket(replace(REAL, authentic=False)), heights).words(D)


def test_records_that_are_not_real_cost_everything_that_is_held():
    end = play(docket(replace(REAL, authentic=False, findings=b"")), [30] * 5)
    assert (end.penalties()[D].held, end.penalties()[D].slashed) == (0, 35_000)


def test_a_proof_wears_out_with_the_harm_done_since_the_newest_verdict():
    slight = replace(REAL, findings=numbers(1, own=NANO // 10))
    heights = [5, *[30] * 9]
    assert play(docket(slight), heights, 2).clips == {D: 3}
    assert play(docket(slight), heights, 6).clips == {}
    newer = docket(slight, Verdict(40, D, 5, True, numbers(5)))
    assert play(newer, [5, *[30] * 4, *[40] * 5], 6).clips == {D: 3}


@pytest.mark.parametrize(
    "wrong",
    [
        replace(REAL, findings=numbers(1, root=bytes(32))),
        replace(REAL, findings=numbers(1, beacon=bytes(32))),
        replace(REAL, findings=numbers(2)),
        replace(REAL, findings=b"in words"),
        replace(REAL, epoch=9, findings=numbers(9)),
        replace(REAL, member=C),
    ],
    ids=["other root", "other draw", "more epochs", "no figures", "of the future", "of who has not appealed"],
)
def test_a_verdict_that_fits_no_appeal_counts_for_nothing(wrong: Verdict):
    book = play(docket(wrong), [5, *[30] * 3], 3)
    assert book.clips == {}
    assert book.state.accounts[D].appeal.stage is Stage.OPEN


def test_the_newest_verdict_counts():
    taken_back = Verdict(40, D, 2, False, b"")
    assert play(docket(REAL, taken_back), [5, 30, 40, 40], 3).state.accounts[D].outcome is Outcome.NOTHING


def test_a_block_that_was_heard_stays_heard():
    assert play(docket(REAL), [30, 0, 0], 3).heard == 30


verdicts = st.lists(
    st.builds(
        lambda block, epoch, real, own: Verdict(block, D, epoch, real, numbers(epoch, own=own)),
        st.integers(11, 60),
        st.integers(1, 6),
        st.booleans(),
        st.integers(-NANO, NANO),
    ),
    max_size=5,
).map(lambda found: sorted(found, key=lambda each: each.block))


@given(
    verdicts, st.lists(st.integers(0, 60), min_size=6, max_size=6), st.lists(st.integers(0, 40), min_size=6, max_size=6)
)
def test_sites_that_have_read_further_and_who_recomputes_later_have_the_same_book(
    said: list[Verdict], heights: list[int], ahead: list[int]
):
    whole = docket(*said)
    there = Book.open(RULE, STAKES, PLACES, BOUNTY, len(heights), Auditor())
    for number, (height, more) in enumerate(zip(heights, ahead, strict=True), 1):
        each = facts(there.active, height)
        agreed = there.hears(each)
        read_so_far = whole.until(min(100, agreed + more))  # this site is ahead of the agreed block
        there = there.after(number, each, True, gram(SITES, True), read_so_far.until(agreed))
    assert there == play(whole, heights)
    assert there.ledger() == play(whole, heights).ledger()
    assert sum(there.credited.values()) <= BOUNTY


# --- audit sets -----------------------------------------------------------------------------------------------------

SET, OTHER = Commitment(b"\x06" * 32, 9), Commitment(b"\x07" * 32, 9)


def told(judge: str, own: int, of: Commitment = SET, epoch: int = 1, block: int = 20) -> Deposition:
    case = on_set(bytes(32), D, 0, of)
    return Deposition(block, judge, D, epoch, pack(case, [replace(GAINS, own=own)] * epoch))


def measured(*depositions: Deposition, epoch: int = 1) -> list[int]:
    said = AuditSets((SET, OTHER)).heard(Docket(100, depositions=depositions), epoch, STAKES)
    return [found.own for found in said.get(D, ())]


def test_more_than_half_of_the_others_stake_must_have_measured():
    assert measured(told(A, 5)) == []
    assert measured(told(A, 5), told(D, 5)) == [], "one does not testify on oneself"
    assert measured(told(A, 5), told("0x" + "99" * 20, 5)) == [], "nor does a stranger"
    assert measured(told(A, 5), told(B, 7)) == [5]
    assert measured(told(A, 5), told(B, 7), told(C, 10**12)) == [7], "a median"
    assert measured(told(A, 5), told(B, 7, OTHER)) == [], "each set for itself"
    assert measured(told(A, 5, epoch=2), told(B, 7, epoch=2)) == [], "of an epoch that is not over"


def test_the_newest_testimony_of_a_judge_counts_and_epochs_that_too_few_have_measured_do_not():
    assert measured(told(A, 5), told(B, 7), told(A, 9, epoch=2, block=30), epoch=2) == [7]
    assert measured(told(A, 5), told(B, 7, epoch=2), told(A, 9, epoch=2, block=30), epoch=2) == [7, 7]


def test_the_set_that_suits_the_member_counts():
    assert measured(told(A, 5), told(B, 5), told(A, 8, OTHER), told(B, 8, OTHER)) == [8]
    assert measured(told(A, 9), told(B, 9), told(A, 8, OTHER), told(B, 8, OTHER)) == [9]


def test_depositions_prove_a_member_that_need_not_appeal():
    book = Book.open(RULE, STAKES, PLACES, BOUNTY, 4, AuditSets((SET,)))
    said = Docket(100, depositions=(told(A, NANO), told(B, NANO), told("0x" + "99" * 20, 1)))
    for number in (1, 2):
        each = facts(height=50)
        book = book.after(number, each, True, gram(SITES, True), said.until(book.hears(each)))
    assert book.clips == {D: 3}


# --- reading --------------------------------------------------------------------------------------------------------


def event(kind: EventKind, block: int, **arguments: object) -> Event:
    return Event(kind, block, "0x" + BEACON.hex(), 0, "0x", {"member": D, **arguments})


def test_events_become_a_docket():
    found = taken(
        Docket(),
        [
            event(EventKind.HOLDOUT_COMMITTED, 3, root=ROOT, records=40),
            event(EventKind.APPEAL_FILED, 10),
            event(EventKind.VERDICT_POSTED, 30, epoch=1, authentic=True, findings=numbers(1)),
            event(EventKind.STAKED, 31),
        ],
        100,
    )
    assert found == docket(REAL)
    more = taken(found, [event(EventKind.TESTIFIED, 120, judge=A, epoch=1, findings=b"")], 130)
    assert more == replace(found, height=130, depositions=(Deposition(120, A, D, 1, b""),))
    assert more.until(100) == found


def test_what_was_not_read_is_not_guessed():
    with pytest.raises(ValueError, match="until block 100"):
        docket().until(101)


@given(st.lists(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 3), max_size=5))
def test_findings_survive_their_bytes(found: list[tuple[int, int, int]]):
    case = on_set(bytes(32), D, 0, SET)
    whole = tuple(Finding(number, True, *of) for number, of in enumerate(found, 1))
    assert unpack(case, len(found), pack(case, whole)) == whole
    with pytest.raises(EvidenceInvalid, match="epochs have"):
        unpack(case, len(found) + 1, pack(case, whole))
