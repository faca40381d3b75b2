"""A member's account from the chain's events: what was held, came back, and is gone."""

from __future__ import annotations

from covey_chain.account import Account, tally
from covey_chain.events import Event, EventKind
from hypothesis import given
from hypothesis import strategies as st

A, B = "0x" + "0a" * 20, "0x" + "0b" * 20


def changed(member: str, held: int, slashed: int, removed: bool = False) -> Event:
    said = {"taskId": bytes(32), "member": member, "held": held, "slashed": slashed, "removed": removed}
    return Event(EventKind.PENALTY_CHANGED, 1, "0x", 0, "0x", said)


def test_held_comes_back_or_is_slashed():
    events = [changed(A, 5, 0), changed(A, 15, 0), changed(A, 8, 0), changed(A, 0, 6), changed(B, 3, 0)]
    found = tally({A: 100, B: 50}, {A: 40}, events)
    assert found[A] == Account(100, held=0, refunded=7 + 2, slashed=6, earned=40)
    assert found[A].net == 34
    assert found[B] == Account(50, held=3)


def test_other_events_change_nothing():
    started = Event(EventKind.TASK_STARTED, 1, "0x", 0, "0x", {"taskId": bytes(32)})
    assert tally({A: 1}, {}, [started]) == {A: Account(1)}


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100))))
def test_nothing_is_lost(steps: list[tuple[int, int]]):
    slashed, account, taken = 0, Account(10**6), 0
    for held, more in steps:
        before = account
        slashed += more
        account = account.after(held, slashed, False)
        taken += max(0, held + slashed - before.held - before.slashed)
    assert account.held + account.slashed + account.refunded == taken
