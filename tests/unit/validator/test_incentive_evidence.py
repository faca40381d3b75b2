"""Evidence: a holdout that was committed to, an appeal in time, and findings that anyone can check."""

from __future__ import annotations

from dataclasses import replace

import pytest
from covey_exchange import segments
from covey_validator.incentives import appeal as appeals
from covey_validator.incentives.appeal import Appeal, AppealError, Stage
from covey_validator.incentives.cases import Case, EvidenceInvalid, drawn_records, found_in
from covey_validator.incentives.evidence import Finding
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.holdout import Commitment, Holdout, OpeningInvalid, check, draw
from covey_validator.incentives.terms import Rule
from covey_validator.scoring import Scores
from hypothesis import given, settings
from hypothesis import strategies as st
from round_bus import addresses

A, B, C = addresses(3)
RULE = Rule(evidence_records=4)
SECRET = b"\x09" * 32
BEACON = b"\x0b" * 32
RECORDS = [f"record {i}".encode() for i in range(20)]
HOLDOUT = Holdout(RECORDS, SECRET)
CASE = Case(bytes(32), A, 10, HOLDOUT.commitment, BEACON)


# --- the holdout ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 40), st.binary(min_size=32, max_size=32))
@settings(deadline=None)
def test_what_is_drawn_can_be_opened_whatever_the_number_of_records(records: int, count: int, beacon: bytes):
    holdout = Holdout([bytes([i]) for i in range(records)], SECRET)
    drawn = draw(beacon, A, holdout.commitment, count)
    assert len(set(drawn)) == len(drawn) == min(count, records)
    assert check(holdout.open(drawn), drawn, holdout.commitment) == [bytes([i]) for i in drawn]


def test_the_root_is_that_of_the_trees_that_the_exchange_has():
    single = Holdout(RECORDS[:1], SECRET)
    assert single.commitment.root == segments.merkle_root(
        [segments.leaf(bytes(8) + single.open([0])[0].salt + RECORDS[0])]
    )


def test_other_records_than_those_drawn_are_refused():
    drawn = draw(BEACON, A, HOLDOUT.commitment, 4)
    others = [i for i in range(20) if i not in drawn][:4]
    with pytest.raises(OpeningInvalid, match="were drawn"):
        check(HOLDOUT.open(others), drawn, HOLDOUT.commitment)


@pytest.mark.parametrize(
    "change",
    [
        {"record": b"another"},
        {"salt": bytes(32)},
        {"salt": b""},
        {"path": ()},
        {"path": (bytes(32),) * 5},
    ],
)
def test_a_record_that_was_not_committed_to_is_refused(change: dict[str, object]):
    drawn = draw(BEACON, A, HOLDOUT.commitment, 4)
    openings = HOLDOUT.open(drawn)
    with pytest.raises(OpeningInvalid, match="not the one"):
        check([replace(openings[0], **change), *openings[1:]], drawn, HOLDOUT.commitment)  # type: ignore[arg-type]


def test_a_record_at_another_place_is_refused():
    openings = [replace(HOLDOUT.open([3])[0], index=4)]
    with pytest.raises(OpeningInvalid):
        check(openings, [4], HOLDOUT.commitment)


def test_the_number_of_records_is_part_of_the_commitment():
    shrunk = Commitment(HOLDOUT.commitment.root, 10)
    with pytest.raises(OpeningInvalid):
        check(HOLDOUT.open([3]), [3], shrunk)


def test_beacon_and_member_decide_what_is_drawn():
    assert draw(BEACON, A, HOLDOUT.commitment, 4) == draw(BEACON, A, HOLDOUT.commitment, 4)
    assert draw(BEACON, A, HOLDOUT.commitment, 4) != draw(BEACON, B, HOLDOUT.commitment, 4)
    assert draw(BEACON, A, HOLDOUT.commitment, 4) != draw(bytes(32), A, HOLDOUT.commitment, 4)


# --- the appeal -----------------------------------------------------------------------------------------------------


def went(*events: appeals.Event) -> Appeal:
    found = Appeal()
    for event in events:
        found = appeals.step(RULE, found, event)
    return found


FLAG, FILE, OPEN = appeals.Flagged(15), appeals.Filed(20), appeals.Opened(25)


@pytest.mark.parametrize(
    ("events", "stage", "protects"),
    [
        ([], Stage.NONE, False),
        ([FLAG], Stage.NONE, True),
        ([FLAG, FILE], Stage.OPEN, True),
        ([FILE, OPEN], Stage.OPEN, True),
        ([FLAG, FILE, OPEN, appeals.Ruled(True)], Stage.UPHELD, False),
        ([FLAG, FILE, OPEN, appeals.Ruled(False)], Stage.REJECTED, False),
        ([FLAG, FILE, appeals.Elapsed(31)], Stage.REJECTED, False),
        ([FLAG, FILE, OPEN, appeals.Elapsed(36)], Stage.UNANSWERED, True),
        ([FLAG, FILE, OPEN, appeals.Elapsed(35)], Stage.OPEN, True),
    ],
)
def test_an_appeal_protects_until_it_is_decided(events: list[appeals.Event], stage: Stage, protects: bool):
    found = went(*events)
    assert (found.stage, found.protects(26)) == (stage, protects)


def test_a_new_penalty_gives_new_time_and_the_time_ends():
    assert went(FLAG).protects(30)
    assert not went(FLAG).protects(31)
    assert went(FLAG, appeals.Flagged(20)).protects(35)


@pytest.mark.parametrize(
    "events",
    [
        [FLAG, appeals.Filed(31)],
        [FILE, FILE],
        [OPEN],
        [FILE, OPEN, OPEN],
        [FILE, appeals.Opened(31)],
        [appeals.Ruled(True)],
        [FILE, appeals.Ruled(False), appeals.Ruled(True)],
        [FILE, appeals.Ruled(False), FILE],
    ],
)
def test_what_comes_too_late_or_twice_is_refused(events: list[appeals.Event]):
    with pytest.raises(AppealError):
        went(*events)


# --- cases ----------------------------------------------------------------------------------------------------------


def test_an_auditor_sees_what_the_beacon_drew():
    drawn = draw(BEACON, A, HOLDOUT.commitment, RULE.evidence_records)
    assert drawn_records(RULE, CASE, HOLDOUT.open(drawn)) == [RECORDS[i] for i in drawn]


def test_an_auditor_is_not_shown_what_the_member_would_like_to_show():
    with pytest.raises(EvidenceInvalid, match="were drawn"):
        drawn_records(RULE, CASE, HOLDOUT.open([0, 1, 2, 3]))


def test_a_member_does_not_judge_its_own_case():
    mine = Scores(100, 0, {A: 10**9, B: 0, C: 0})
    rounds = [RoundFacts(frozenset({A, B, C}), {A: mine, B: Scores(100, 90, {A: 95, B: 90, C: 90})})]
    assert found_in(RULE, 1, A, rounds, {A: 100, B: 1}) == Finding(1, True, 100, 5, 0)
