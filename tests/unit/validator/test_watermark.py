"""What was signed and is not in the state any more is noticed, and nothing else is."""

from pathlib import Path

import pytest
from covey_chain.types import RollCall
from covey_exchange.agreement_types import EPOCH_VIEWS
from covey_validator.errors import TaskFailed
from covey_validator.rollbook import RollBook
from covey_validator.store import Store
from covey_validator.watermark import Mark, WaterMark, what_was_lost
from test_attendance import EVERYBODY, result, roster, vote
from validator_world import OWNERS, TASK_ID

A = OWNERS[0]


def marked(tmp_path: Path) -> WaterMark:
    return WaterMark(tmp_path / "output", TASK_ID, A)


def book(store: Store, mark: Mark) -> RollBook:
    return RollBook(store, A, TASK_ID, EVERYBODY, roster(), mark)


def test_the_mark_outlives_the_process_and_goes_with_the_task(tmp_path: Path):
    store, mark = Store(tmp_path / "state", A), marked(tmp_path)
    mark.signs_in_round(3, store)
    mark.answers_roll_call(2)
    mark.signs_in_round(2, store)
    assert marked(tmp_path).mark == Mark(round=3, roll_call=2)
    assert not store.knows_round(2), "a round below the mark is not opened"
    mark.forget()
    assert marked(tmp_path).mark == Mark()


def test_a_mark_that_cannot_be_read_is_told_before_anything_is_signed(tmp_path: Path):
    mark = marked(tmp_path)
    mark.answers_roll_call(1)
    next((tmp_path / "output/.covey").iterdir()).write_text("{")
    with pytest.raises(TaskFailed, match="volume of finished models"):
        marked(tmp_path)


def test_a_volume_that_cannot_be_written_is_told_too(tmp_path: Path):
    (tmp_path / "output").write_text("no directory")
    with pytest.raises(TaskFailed, match="volume of finished models"):
        marked(tmp_path).answers_roll_call(1)


def test_a_crash_before_the_first_signature_is_no_loss(tmp_path: Path):
    store, mark = Store(tmp_path / "state", A), marked(tmp_path)
    mark.signs_in_round(1, store)
    assert what_was_lost(Store(tmp_path / "state", A), marked(tmp_path).mark, 0) == Mark()


def test_an_older_state_is_a_loss_and_stays_one_while_the_round_fills_anew(tmp_path: Path):
    store, mark = Store(tmp_path / "state", A), marked(tmp_path)
    mark.signs_in_round(4, store)
    mark.signs_in_round(5, store)
    older = Store(tmp_path / "older", A)
    older.open_round(4)
    assert what_was_lost(older, mark.mark, 0) == Mark(round=5)
    older.open_round(5)
    assert what_was_lost(older, mark.mark, 0) == Mark(round=5)
    mark.signs_in_round(6, older)
    assert what_was_lost(older, mark.mark, 0) == Mark(round=5), "the next round is as any other"


def test_in_a_lost_round_nothing_is_signed_but_votes_of_a_later_epoch(tmp_path: Path):
    lost = book(Store(tmp_path, A), Mark(round=1, roll_call=1))
    assert lost.is_silent(1)
    assert lost.forbids(vote(A, EPOCH_VIEWS)), "also in the newest epoch that we may have voted in"
    assert lost.forbids(result(1))
    assert not lost.is_lost(2)
    assert lost.answer is None
    lost.leave(RollCall(TASK_ID, 2, A, bytes(32)), b"s" * 65, b"")
    assert not lost.is_silent(1)
    assert not lost.forbids(vote(A, 2 * EPOCH_VIEWS))
    assert lost.forbids(vote(A, EPOCH_VIEWS))
    assert not lost.forbids(result(2))
    assert lost.is_lost(1), "updates and scores know no epoch"
    again = book(Store(tmp_path, A), Mark(round=1, roll_call=2))
    assert not again.is_silent(1), "also after a restart"


def test_an_answer_to_a_roll_call_that_was_lost_is_not_given_again(tmp_path: Path):
    store = Store(tmp_path, A)
    book(store, Mark()).leave(RollCall(TASK_ID, 1, A, bytes(32)), b"s" * 65, b"")
    assert book(store, Mark(roll_call=1)).answer is not None
    older = book(store, Mark(roll_call=2))
    assert (older.left, older.answer) == (2, None)
