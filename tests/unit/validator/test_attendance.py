"""Roll calls at one site: when it answers, what it shows, what it must not sign any more, and how its round goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from covey_chain.types import EndedCall, PendingCall, Proposal, RollCall, RollCallState, RoundResult, Vote
from covey_exchange.agreement_types import EPOCH_VIEWS, PRECOMMIT, PREVOTE, Epoch, Received
from covey_validator import evidence
from covey_validator.attendance import must_answer
from covey_validator.records import CertifiedRound, RecordInvalid
from covey_validator.rollbook import RollBook
from covey_validator.round_types import EpochBegan, Left
from covey_validator.store import Store
from eth_utils import keccak
from round_bus import Bus, addresses, setting
from validator_world import OWNERS, TASK_ID, record, roster, said, task

A, B, C = OWNERS
VALUE = keccak(b"selection")
EVERYBODY = Epoch(0, dict.fromkeys(OWNERS, 100))


def state(epoch: int = 0, active: tuple[str, ...] = (A, B, C), call: PendingCall | None = None) -> RollCallState:
    return RollCallState(epoch, dict.fromkeys(active, 100), {}, call)


@pytest.mark.parametrize(
    ("seen", "waited", "rounds", "answers"),
    [
        (state(), 0, 5, False),  # nothing is wrong
        (state(), 61, 5, True),  # nothing goes on
        (state(1, (B, C)), 0, 0, True),  # we are back
        (state(call=PendingCall(1, 99, {B: b"", C: b""})), 0, 0, True),  # who does not answer is left out
        (state(call=PendingCall(1, 99, {A: b"", C: b""})), 61, 5, False),  # we have
        (state(call=PendingCall(1, None, {A: b""})), 61, 5, False),
        (state(1, (A, B), PendingCall(2, None, {C: b""})), 0, 0, False),  # C was let go in this very round
        (state(1, (A, B), PendingCall(2, None, {C: b""})), 0, 1, True),
        (state(5, (A, B), PendingCall(6, None, {C: b""})), 0, 15, False),  # it comes and goes
        (state(5, (A, B), PendingCall(6, None, {C: b""})), 0, 16, True),
    ],
)
def test_when_a_site_answers(seen: RollCallState, waited: float, rounds: int, answers: bool):
    assert must_answer(seen, A, waited, 60, rounds, silent=False) is answers


@pytest.mark.parametrize(
    ("seen", "answers"),
    [
        (state(), False),  # it never calls
        (state(call=PendingCall(1, 99, {B: b""})), False),  # C may know a lock that B does not
        (state(call=PendingCall(1, 99, {B: b"", C: b""})), True),
        (state(call=PendingCall(1, None, {A: b"", B: b"", C: b""})), False),
        (state(1, (B, C), PendingCall(2, None, {B: b""})), False),  # we are out, and they go on
        (state(active=(A, B), call=PendingCall(1, None, {B: b""})), True),  # of two both are needed
    ],
)
def test_who_has_lost_its_locks_answers_last(seen: RollCallState, answers: bool):
    assert must_answer(seen, A, 100, 60, 5, silent=True) is answers


def vote(site: str, view: int, kind: int = PREVOTE) -> Vote:
    return Vote(TASK_ID, 1, 0, view, kind, VALUE, site)


def result(epoch: int = 0) -> RoundResult:
    return replace(record(1, bytes(32)).result, epoch=epoch)


def test_what_is_shown_comes_back_from_the_chain_and_each_message_once():
    votes = [said(vote(site, 0)) for site in OWNERS]
    proposal = said(Proposal(TASK_ID, 1, 0, 0, -1, VALUE, A), b"selection")
    shown = evidence.encode(message.envelope for message in [*votes, proposal])
    found = evidence.decode({A: shown, B: shown}, roster())
    assert {m.body for m in found} == {vote(site, 0) for site in OWNERS} | {proposal.body}
    assert next(m for m in found if m.body == proposal.body).envelope.attachment == b"selection"
    assert {received.message for received in evidence.votes(found)} == {vote(site, 0) for site in OWNERS}


def test_what_is_not_genuine_is_left_out():
    true, forged = said(vote(B, 0)), said(vote(A, 0))
    forged_envelope = replace(forged.envelope, body=vote(C, 0))
    mixed = evidence.encode([forged_envelope, true.envelope])
    found = evidence.decode({A: b"\xff\xff no protobuf", B: mixed, C: b""}, roster())
    assert [message.body for message in found] == [vote(B, 0)]


def test_the_newest_result_needs_a_quorum_of_its_own_epoch():
    both = [said_result(result(1), site) for site in (A, B)]
    epochs = (EVERYBODY, Epoch(1, {A: 100, B: 100}))
    assert evidence.newest_result(both, lambda number: epochs[number]) == 1
    assert evidence.newest_result([said_result(result(0), site) for site in (A, B)], lambda n: epochs[n]) == 0
    assert evidence.newest_result(both, lambda _number: None) == 0


def said_result(body: RoundResult, site: str):  # type: ignore[no-untyped-def]
    from validator_world import KEYS

    known = roster()
    return known.verify(known.seal(body, KEYS[site]))


def test_the_book_is_read_again_after_a_restart_and_forbids_what_was_left(tmp_path: Path):
    def book() -> RollBook:
        return RollBook(Store(tmp_path, A), A, TASK_ID, EVERYBODY, roster())

    first = book()
    assert (first.left, first.epoch, first.answer) == (0, EVERYBODY, None)
    shown = evidence.encode([said(vote(site, 0)).envelope for site in OWNERS])
    call = RollCall(TASK_ID, 1, A, keccak(shown))
    first.leave(call, b"s" * 65, shown)
    first.enter(EndedCall(1, {A: 100, B: 100}, {A: shown}), roster(), 7)

    again = book()
    assert again.answer == (call, b"s" * 65, shown)
    assert [began.in_round for began in again.began] == [7]
    assert again.epoch == Epoch(1, {A: 100, B: 100}, evidence.votes(again.began[0].shown))
    assert again.forbids(vote(A, EPOCH_VIEWS - 1))
    assert not again.forbids(vote(A, EPOCH_VIEWS))
    assert again.forbids(result(0))
    assert not again.forbids(result(1))


def test_a_certified_round_is_held_to_the_stake_of_its_epoch():
    by_two = record(1, bytes(32), signers=[A, B])
    with pytest.raises(RecordInvalid, match="no more than 2/3"):
        task().signers.verify(by_two)
    body = replace(by_two.result, epoch=1)
    signatures = {m.site: m.envelope.signature for m in (said_result(body, A), said_result(body, B))}
    later = CertifiedRound(**{**by_two.__dict__, "epoch": 1, "signatures": task().signers.ascending(signatures)})
    with pytest.raises(RecordInvalid, match="epoch 1, which has not begun here"):
        task().signers.verify(later)
    replace(task().signers, epochs=({A: 100, B: 100},)).verify(later)
    with pytest.raises(RecordInvalid, match="no more than 2/3"):
        replace(task().signers, epochs=({A: 100, C: 100},)).verify(later)


def shown_by(bus: Bus, sites: list[str]) -> tuple[Received, ...]:
    return tuple(r for site in sites for a in bus.sites[site].state.agreements.values() for r in a.evidence)


@pytest.mark.parametrize("seed", range(30))
def test_two_of_three_certify_once_the_roll_is_called(seed: int):
    everybody = addresses(3)
    here = everybody[:2]
    bus = Bus(seed, [setting(site, everybody) for site in here], crashes=seed % 3)
    signed_late: list[object] = []

    def call() -> None:
        assert not any(site.certified for site in bus.sites.values())
        for site in bus.sites.values():
            if not site.up:
                bus.restart(site)
            bus.feed(site, Left(1))
        signed_late.append({name: len(site.own) for name, site in bus.sites.items()})

    def begin() -> None:
        assert signed_late == [{name: len(site.own) for name, site in bus.sites.items()}], "signed after the answer"
        epoch = Epoch(1, dict.fromkeys(here, 10), shown_by(bus, here))
        for site in bus.sites.values():
            site.setting = replace(site.setting, epochs=(epoch,), left=1)
            bus.feed(site, EpochBegan(epoch))

    bus.at(250, call)
    bus.at(280, begin)
    bus.run()
    results = {site.certified.verdict.result for site in bus.sites.values() if site.certified}
    assert len(results) == 1
    assert all(site.certified for site in bus.sites.values())
    assert results.pop().epoch == 1


@pytest.mark.parametrize("at", [15, 40, 80])
def test_a_call_in_the_middle_of_a_round_changes_nothing_but_the_epoch(at: int):
    everybody = addresses(3)
    plain, called = (Bus(4, [setting(site, everybody) for site in everybody]) for _ in range(2))
    plain.run()

    def call() -> None:
        epoch = Epoch(1, dict.fromkeys(everybody, 10), shown_by(called, everybody))
        for site in called.sites.values():
            called.feed(site, Left(1))
        for site in called.sites.values():
            called.feed(site, EpochBegan(epoch))

    called.at(at, call)
    called.run()
    assert all(site.certified for site in called.sites.values())
    assert len({site.certified.verdict.result.model_digest for site in called.sites.values() if site.certified}) == 1


def test_a_precommit_is_no_evidence():
    found = evidence.decode({A: evidence.encode([said(vote(A, 0, PRECOMMIT)).envelope])}, roster())
    book_epoch = Epoch(1, {A: 1}, evidence.votes(found))
    from covey_exchange.agreement_state import State
    from covey_exchange.agreement_types import Instance

    machine = State(Instance(TASK_ID, 1, 0, A, Epoch(0, {A: 1})))
    machine.begin(book_epoch)
    assert machine.locked_view == -1
