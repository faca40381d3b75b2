"""The machine on hand-made schedules: each rule of algorithm 1 that a site could get wrong."""

from __future__ import annotations

import pytest
from covey_chain.types import Proposal, Vote
from covey_exchange.agreement import step
from covey_exchange.agreement_state import State, resume
from covey_exchange.agreement_types import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    Candidate,
    Certificate,
    Epoch,
    Equivocation,
    Event,
    Instance,
    Judge,
    Judged,
    Received,
    Schedule,
    Sign,
    Stage,
    Start,
    Timeout,
)

A, B, C, D = (f"0x{c * 40}" for c in "abcd")
TASK = bytes(31) + b"\x07"
X, Y = b"x" * 32, b"y" * 32


def instance(site: str = A, **weights: int) -> Instance:
    return Instance(TASK, 0, 0, site, Epoch(0, weights or dict.fromkeys((A, B, C, D), 1)))


def proposal(site: str, view: int, value: bytes, valid_view: int = -1) -> Received:
    return Received(Proposal(TASK, 0, 0, view, valid_view, value, site))


def vote(site: str, view: int, kind: int, value: bytes) -> Received:
    return Received(Vote(TASK, 0, 0, view, kind, value, site))


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


def test_the_proposer_rotates_over_sorted_addresses_from_round_plus_view():
    everybody = Epoch(0, dict.fromkeys((D, B, A, C), 1))
    assert [everybody.proposer(5, view) for view in range(4)] == [B, C, D, A]


def test_exactly_two_thirds_is_no_quorum():
    three = Epoch(0, dict.fromkeys((A, B, C), 1))
    assert not three.is_quorum(2)
    assert three.is_quorum(3)


def test_all_agree_in_the_first_view():
    _, actions = play(
        State(instance()),
        Candidate(X),
        Start(),
        *(vote(site, 0, PREVOTE, X) for site in (B, C)),
        *(vote(site, 0, PRECOMMIT, X) for site in (B, C)),
    )
    assert votes(actions) == [(0, PREVOTE, X), (0, PRECOMMIT, X)]
    certificate = actions[-1]
    assert isinstance(certificate, Certificate)
    assert (certificate.value, {r.message.site for r in certificate.precommits}) == (X, {A, B, C})


def test_a_value_not_yet_known_is_asked_for_and_gets_nil_at_the_timeout():
    _, actions = play(State(instance(B)), Start(), proposal(A, 0, X), Timeout(Stage.PROPOSE, 0))
    assert Judge(X) in actions
    assert votes(actions) == [(0, PREVOTE, NIL)]


def test_an_invalid_value_gets_nil():
    _, actions = play(State(instance(B)), Start(), proposal(A, 0, X), Judged(X, False))
    assert votes(actions) == [(0, PREVOTE, NIL)]


def test_a_value_counts_as_soon_as_it_is_judged_valid():
    _, actions = play(State(instance(B)), Start(), proposal(A, 0, X), Judged(X, True))
    assert votes(actions) == [(0, PREVOTE, X)]


def test_a_proposal_from_the_wrong_site_is_not_answered():
    _, actions = play(State(instance(B)), Start(), Judged(X, True), proposal(C, 0, X))
    assert votes(actions) == []


def locked_on_x() -> State:
    state, _ = play(
        State(instance(B)),
        Start(),
        Judged(X, True),
        Judged(Y, True),
        proposal(A, 0, X),
        *(vote(site, 0, PREVOTE, X) for site in (A, C)),
        *(vote(site, 0, PRECOMMIT, NIL) for site in (A, C)),
        Timeout(Stage.PRECOMMIT, 0),
    )
    assert (state.locked_value, state.locked_view, state.view) == (X, 0, 1)
    return state


def test_a_locked_site_proposes_what_it_is_locked_on():
    state, actions = play(locked_on_x(), Candidate(Y))
    held = state.held(1, 0, B)[0].message
    assert (held.value, held.valid_view) == (X, 0)
    assert votes(actions) == []  # the prevote followed the proposal already


def test_a_locked_site_refuses_another_value_without_proof():
    state, _ = play(locked_on_x(), Timeout(Stage.PRECOMMIT, 1))
    _, actions = play(state, proposal(C, 2, Y))
    assert votes(actions) == [(2, PREVOTE, NIL)]


def test_a_later_quorum_of_prevotes_unlocks():
    state, _ = play(locked_on_x(), Timeout(Stage.PRECOMMIT, 1))
    _, actions = play(state, proposal(C, 2, Y, valid_view=1), *(vote(site, 1, PREVOTE, Y) for site in (A, C, D)))
    assert votes(actions) == [(2, PREVOTE, Y)]


def test_a_claimed_proof_that_we_have_not_seen_is_waited_for():
    state, _ = play(locked_on_x(), Timeout(Stage.PRECOMMIT, 1))
    _, actions = play(state, proposal(C, 2, Y, valid_view=1), vote(A, 1, PREVOTE, Y))
    assert votes(actions) == []


def test_more_than_a_third_of_the_stake_in_a_later_view_takes_us_along():
    state, actions = play(State(instance(B)), Start(), vote(A, 4, PREVOTE, NIL), vote(C, 4, PREVOTE, X))
    assert state.view == 4
    assert Schedule(Stage.PROPOSE, 4) in actions


def test_a_site_that_has_not_started_listens_and_may_learn_the_decision():
    _, actions = play(State(instance(B)), Judged(X, True), *(vote(site, 3, PRECOMMIT, X) for site in (A, C, D)))
    assert [type(action) for action in actions] == [Certificate]


def test_no_decision_on_a_value_that_we_cannot_check():
    state, actions = play(State(instance(B)), Start(), *(vote(site, 0, PRECOMMIT, X) for site in (A, C, D)))
    assert not any(isinstance(action, Certificate) for action in actions)
    _, actions = play(state, Judged(X, True))
    assert isinstance(actions[0], Certificate)


def test_two_votes_for_one_slot_are_evidence_once():
    first, second = vote(C, 0, PREVOTE, X), vote(C, 0, PREVOTE, Y)
    _, actions = play(State(instance(B)), first, second, second)
    assert [a for a in actions if isinstance(a, Equivocation)] == [Equivocation(first, second)]


def test_two_proposals_for_one_view_are_evidence():
    _, actions = play(State(instance(B)), proposal(A, 0, X), proposal(A, 0, Y))
    assert any(isinstance(action, Equivocation) for action in actions)


def test_a_stranger_has_no_vote():
    state, _ = play(State(instance(B)), vote("0x" + "9" * 40, 0, PREVOTE, X))
    assert not state.messages.get((0, PREVOTE))


def test_views_far_ahead_are_not_stored():
    state, _ = play(State(instance(B)), vote(C, 10**9, PREVOTE, X))
    assert not state.messages


def test_a_message_of_another_instance_is_a_programming_error():
    with pytest.raises(ValueError, match="another instance"):
        step(State(instance(B)), Received(Vote(TASK, 1, 0, 0, PREVOTE, X, A)))


def test_a_restart_keeps_the_lock_and_signs_nothing_again():
    own = [vote(B, 0, PREVOTE, X), vote(B, 0, PRECOMMIT, X)]
    state = resume(instance(B), own)
    assert (state.locked_value, state.locked_view) == (X, 0)
    _, actions = play(state, Judged(Y, True), Start(), proposal(A, 0, Y), Timeout(Stage.PROPOSE, 0))
    assert votes(actions) == []


def test_a_restart_refuses_the_messages_of_others():
    with pytest.raises(ValueError, match="signed"):
        resume(instance(B), [vote(C, 0, PREVOTE, X)])


def test_step_leaves_the_old_state_alone():
    state = State(instance(B))
    step(state, Start())
    step(state, proposal(A, 0, X))
    assert state == State(instance(B))


def test_stakes_decide_not_heads():
    whale = Instance(TASK, 0, 0, B, Epoch(0, {A: 1, B: 7, C: 1, D: 1}))
    _, actions = play(State(whale), Start(), Judged(X, True), proposal(A, 0, X))
    assert isinstance(actions[-1], Certificate)
