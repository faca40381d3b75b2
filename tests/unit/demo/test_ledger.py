"""The books balance only when nothing is missing."""

from dataclasses import replace

from covey_chain.types import PublishedTask, SettlementState, TaskStatus
from covey_demo.ledger import Account, Books

TASK = PublishedTask(b"", b"", "", b"", b"", "", 100, 1, 3, 3, 0, 0, 60, TaskStatus.FINISHED, 1)
BOOKS = Books(
    task=TASK,
    settled=SettlementState(3, b"", b"", 90, last=True),
    accounts={"a": Account(10, earned=40), "b": Account(10, earned=50)},
    supply=1000,
    held=1000,
)


def test_all_is_claimed_when_the_last_result_is_paid_to_the_unit() -> None:
    assert BOOKS.all_claimed
    assert not replace(BOOKS, settled=replace(BOOKS.settled, total_reward=91)).all_claimed
    assert not replace(BOOKS, settled=replace(BOOKS.settled, last=False)).all_claimed


def test_a_missing_token_is_seen() -> None:
    assert BOOKS.conserved
    assert not replace(BOOKS, held=999).conserved
