"""Epochs of the machine (ADR 0008): whose stake counts in a view, and what a lock rests on after a roll call."""

from __future__ import annotations

import pytest
from covey_chain.types import Proposal, Vote
from covey_exchange.agreement import MAX_EARLY_MESSAGES, step
from covey_exchange.agreement_state import State, resume
from covey_exchange.agreement_types import (
    EPOCH_VIEWS,
    NIL,
    PRECOMMIT,
    PREVOTE,
    Candidate,
    Certificate,
    Enter,
    Epoch,
    Event,
    Instance,
    Judge,
    Judged,
    Leave,
    Received,
    Sign,
    Stage,
    Start,
    Timeout,
)

A, B, C, D, E = (f"0x{c * 40}" for c in "abcde")
TASK = bytes(31) + b"\x07"
X, Y = b"x" * 32, b"y" * 32
FIRST = EPOCH_VIEWS  # the first view of epoch 1; B proposes in it when A, B and C are active
THREE = Epoch(0, dict.fromkeys((A, B, C), 1))
FIVE = Epoch(0, dict.fromkeys((A, B, C, D, E), 1))


def site(name: str, everybody: Epoch = THREE) -> State:
    return State(Instance(TASK, 0, 0, name, everybody))


def vote(name: str, view: int, kind: int, value: bytes) -> Received:
    return Received(Vote(TASK, 0, 0, view, kind, value, name))


def proposal(name: str, view: int, value: bytes, valid_view: int = -1) -> Received:
    return Received(Proposal(TASK, 0, 0, view, valid_view, value, name))


def play(state: State, *events: Event) -> tuple[State, list[object]]:
    """Feed events; our own signed messages come back at once, as from the shell."""
    seen: list[object] = []
    queue = list(events)
    while queue:
        state, actions = step(state, queue.pop(0))
        seen += actions
        queue[:0] = [Received(action.message) for action in actions if isinstance(action, Sign)]
    return state, seen


def votes(actions: list[object]) -> list[tuple[int, int, bytes]]:
    found = [a.message for a in actions if isinstance(a, Sign) and isinstance(a.message, Vote)]
    return [(m.view, m.kind, m.value) for m in found]


def epoch(number: int, *names: str, evidence: tuple[Received, ...] = ()) -> Enter:
    return Enter(Epoch(number, dict.fromkeys(names, 1), evidence))


def quorum(view: int, value: bytes, *names: str) -> tuple[Received, ...]:
    return tuple(vote(name, view, PREVOTE, value) for name in names)


def test_two_of_three_decide_once_the_third_does_not_count():
    state, actions = play(site(A), Candidate(X), Start(), vote(B, 0, PREVOTE, X), vote(B, 0, PRECOMMIT, X))
    assert votes(actions) == [(0, PREVOTE, X)]  # two of three are no quorum

    state, actions = play(state, Leave(1), epoch(1, A, B), Timeout(Stage.PROPOSE, FIRST))
    assert votes(actions) == [(FIRST, PREVOTE, X)]  # A proposes here, and answers itself
    _, actions = play(state, vote(B, FIRST, PREVOTE, X), vote(B, FIRST, PRECOMMIT, X))
    assert [(a.value, a.view) for a in actions if isinstance(a, Certificate)] == [(X, FIRST)]


def test_after_a_roll_call_nothing_is_signed_in_the_epoch_before():
    state, _ = play(site(B), Judged(X, True), Start(), Leave(1))
    _, actions = play(state, proposal(A, 0, X), Timeout(Stage.PROPOSE, 0), *quorum(0, X, A, C))
    assert votes(actions) == []


def test_a_decision_of_the_epoch_before_still_counts():
    state, _ = play(site(B), Judged(X, True), Start(), Leave(1), epoch(1, A, B))
    _, actions = play(state, *(vote(name, 0, PRECOMMIT, X) for name in (A, B, C)))
    assert [type(action) for action in actions] == [Certificate]


def test_votes_of_old_views_are_counted_with_the_old_set():
    state, _ = play(site(B), Judged(X, True), Start(), Leave(1), epoch(1, A, B))
    _, actions = play(state, *(vote(name, 0, PRECOMMIT, X) for name in (A, B)))
    assert not any(isinstance(action, Certificate) for action in actions)


def test_everybody_enters_locked_on_the_latest_quorum_that_was_shown():
    shown = (*quorum(0, X, A, B, C, D), *quorum(3, Y, B, C, D, E))
    state, actions = play(site(A, FIVE), Start(), Leave(1), epoch(1, A, B, C, D, evidence=shown))
    assert (state.locked_value, state.locked_view, state.valid_value) == (Y, 3, Y)
    assert Judge(Y) in actions
    assert {received.message.site for received in state.evidence} == {B, C, D, E}  # it is shown again next time


def test_a_lock_from_evidence_holds_against_another_proposal():
    shown = quorum(0, X, A, B, C, D)
    state, _ = play(site(C, FIVE), Judged(Y, True), Start(), Leave(1), epoch(1, A, B, C, D, evidence=shown))
    proposer = state.proposer(state.view)
    _, actions = play(state, proposal(proposer, FIRST, Y))
    assert votes(actions) == [(FIRST, PREVOTE, NIL)]


def test_a_proposal_may_point_to_a_quorum_of_an_older_epoch():
    shown = quorum(0, X, A, B, C, D)
    state, _ = play(site(C, FIVE), Judged(X, True), Start(), Leave(1), epoch(1, A, B, C, D, evidence=shown))
    _, actions = play(state, proposal(state.proposer(FIRST), FIRST, X, valid_view=0))
    assert votes(actions) == [(FIRST, PREVOTE, X)]


@pytest.mark.parametrize(
    "shown",
    [
        quorum(0, X, A, B, C),  # three of five are no quorum
        (*quorum(0, X, A, B, C), vote(C, 0, PREVOTE, X)),  # a site counts once
        tuple(vote(name, 0, PRECOMMIT, X) for name in (A, B, C, D)),
        quorum(FIRST, X, A, B, C, D),  # of the epoch that only begins
        quorum(0, NIL, A, B, C, D),
        tuple(Received(Vote(TASK, 1, 0, 0, PREVOTE, X, name)) for name in (A, B, C, D)),  # another round
    ],
)
def test_what_is_no_quorum_locks_nobody(shown: tuple[Received, ...]):
    state, _ = play(site(A, FIVE), Start(), Leave(1), epoch(1, A, B, C, D, evidence=shown))
    assert state.locked_view == -1


def test_a_site_outside_the_set_only_listens():
    state, actions = play(site(C), Judged(X, True), Candidate(X), Start(), epoch(1, A, B))
    assert votes(actions) == []
    _, actions = play(state, Timeout(Stage.PROPOSE, FIRST), *(vote(name, FIRST, PRECOMMIT, X) for name in (A, B)))
    assert [type(action) for action in actions] == [Certificate]


def test_a_vote_of_who_does_not_count_is_not_held():
    state, _ = play(site(A), Start(), epoch(1, A, B), vote(C, FIRST, PREVOTE, X))
    assert not state.held(FIRST, PREVOTE, C)


def test_messages_of_an_epoch_to_come_wait_for_it():
    state, _ = play(site(A), Judged(X, True), Start(), *(vote(name, FIRST, PRECOMMIT, X) for name in (A, B)))
    assert not state.messages
    _, actions = play(state, epoch(1, A, B))
    assert any(isinstance(action, Certificate) for action in actions)


def test_what_waits_is_bounded_for_each_site():
    far = [vote(C, FIRST + n, PREVOTE, X) for n in range(2 * MAX_EARLY_MESSAGES)]
    state, _ = play(site(A), *far, vote(B, FIRST, PREVOTE, X))
    assert len(state.early) == MAX_EARLY_MESSAGES + 1


def test_epochs_come_in_order_and_once():
    state, _ = play(site(A), Start(), epoch(1, A, B))
    again, actions = play(state, epoch(1, A, C))
    assert (again, actions) == (state, [])
    with pytest.raises(ValueError, match="epoch 3 does not follow epoch 1"):
        play(state, epoch(3, A, B))


def test_a_restart_knows_its_epochs_and_the_roll_call_that_it_answered():
    own = [vote(B, 0, PREVOTE, X), vote(B, 0, PRECOMMIT, X)]
    state = resume(Instance(TASK, 0, 0, B, THREE), own, (), 1)
    _, actions = play(state, Judged(X, True), Start(), proposal(A, 1, X), Timeout(Stage.PROPOSE, 0))
    assert votes(actions) == []

    first = Epoch(1, dict.fromkeys((A, B), 1))
    own.append(vote(B, FIRST, PREVOTE, X))
    state = resume(Instance(TASK, 0, 0, B, THREE), own, (first,), 1)
    assert (state.view, state.stage, state.locked_value) == (FIRST, Stage.PREVOTE, X)


def test_what_others_still_have_of_a_site_that_lost_its_disk_is_recalled_when_its_epoch_is_known():
    """Heard and stored before the chain was read, and then a crash."""
    own = [vote(B, 0, PREVOTE, X), vote(B, FIRST, PREVOTE, X), vote(B, FIRST, PRECOMMIT, X)]
    state = resume(Instance(TASK, 0, 0, B, THREE), own)
    assert (state.view, state.stage) == (0, Stage.PREVOTE)

    state, _ = play(state, epoch(1, A, B))
    assert (state.view, state.stage, state.locked_value, state.locked_view) == (FIRST, Stage.PRECOMMIT, X, FIRST)
    _, actions = play(state, Judged(Y, True), Start(), proposal(B, FIRST, Y), Timeout(Stage.PROPOSE, FIRST))
    assert votes(actions) == []


def test_own_messages_heard_before_their_epoch_are_recalled_once_and_only_where_the_stake_counts():
    heard = vote(B, FIRST, PRECOMMIT, X)
    state, _ = play(site(B), Start(), heard, epoch(1, A, B), heard)
    assert state.held(FIRST, PRECOMMIT, B) == (heard,)
    assert (state.view, state.stage, state.locked_value) == (FIRST, Stage.PRECOMMIT, X)

    state, _ = play(site(B), Start(), heard, epoch(1, A, C))
    assert not state.held(FIRST, PRECOMMIT, B)
    assert state.locked_view == -1
