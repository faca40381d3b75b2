"""One round, several machines: what they promise each other."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from covey_chain.types import RoundResult, ScoreCommit, ScoreReveal, UpdateHeader, Vote
from covey_validator import round as machine
from covey_validator import selection
from covey_validator.round_types import (
    Accuse,
    Action,
    Begin,
    CatchUp,
    Deadline,
    Elapsed,
    Encode,
    Fetch,
    Heard,
    Phase,
    Send,
    Train,
    UpdateArrived,
)
from round_bus import BASE, Bus, Site, addresses, header, setting, signed

A, B, C = addresses(3)
SITES = [A, B, C]


def three(seed: int = 0, **options: object) -> Bus:
    changes = options.pop("changes", {})
    return Bus(seed, [setting(site, SITES, **changes) for site in SITES], **options)  # type: ignore[arg-type]


def results(bus: Bus) -> set[RoundResult]:
    for site in bus.sites.values():
        assert site.certified is not None, f"no certificate; replay with seed {bus.seed}: {site.state.phase}"
    return {site.certified.verdict.result for site in bus.sites.values() if site.certified}


def test_three_sites_sign_one_result():
    bus = three()
    bus.run()
    (result,) = results(bus)
    assert result.accepted
    assert result.total_reward <= 900
    for site in bus.sites.values():
        assert site.certified
        assert {m.site for m in site.certified.signatures} == set(SITES)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_members_are_enough(count: int):
    sites = addresses(count)
    bus = Bus(0, [setting(site, sites, min_updates=count) for site in sites])
    bus.run()
    (result,) = results(bus)
    assert result.accepted
    assert result.total_reward == 900 // 3 // 2, "after one round of three, half of what it would be paid now"


def test_a_round_that_makes_the_model_worse_is_discarded_and_pays_nobody():
    worse = {"base": 1_000_000, "candidate": 2_000_000}
    bus = three(losses=lambda _judge, label, _random: worse.get(label, 2_000_000))
    bus.run()
    (result,) = results(bus)
    assert not result.accepted
    assert (result.model_digest, result.total_reward) == (BASE, 0)


def test_a_site_that_is_too_slow_is_left_out_and_its_delta_kept():
    bus = three(train_seconds=lambda site, _random: 500.0 if site == C else 5.0)
    bus.run()
    (result,) = results(bus)
    selected = selection.decode(bus.sites[A].state.selections[result.updates_root])
    assert set(selected) == {A, B}
    while not bus.sites[C].absorbed:
        bus.now, _, action = bus.heap.pop(0)
        action()
    assert bus.sites[C].absorbed


def test_fewer_than_the_minimum_keep_waiting():
    bus = three(train_seconds=lambda site, _random: 400.0 if site != A else 5.0)
    bus.run()
    results(bus)
    assert bus.now > 400


def test_a_site_with_a_small_holdout_abstains_and_the_others_decide():
    bus = three(abstain=frozenset({C}))
    bus.run()
    (result,) = results(bus)
    assert result.accepted


def test_when_nobody_can_judge_all_fail_with_the_remedy():
    bus = three(abstain=frozenset(SITES))
    bus.run()
    assert {site.failed.reason for site in bus.sites.values() if site.failed} == {"HoldoutTooSmall"}
    assert all("minHoldout" in site.failed.message for site in bus.sites.values() if site.failed)


def test_sites_that_start_from_different_models_say_so():
    settings = [setting(site, SITES, base=BASE if site != C else b"\x01" * 32) for site in SITES]
    bus = Bus(0, settings)
    bus.run()
    for site in bus.sites.values():
        assert site.failed is not None
        assert site.failed.reason == "BaseModelMismatch"
    assert (b"\x01" * 32).hex() in bus.sites[A].failed.message  # type: ignore[union-attr]


def test_one_odd_site_of_four_does_not_stop_the_others():
    sites = addresses(4)
    settings = [setting(site, sites, base=BASE if site != sites[3] else b"\x01" * 32) for site in sites]
    bus = Bus(0, settings)
    bus.run()
    assert bus.sites[sites[3]].failed is not None
    assert len({s.certified.verdict.result for s in bus.sites.values() if s.certified}) == 1
    assert sum(s.certified is not None for s in bus.sites.values()) == 3


def test_a_validator_without_data_to_train_on_scores_and_signs():
    bus = three(changes={"trainers": frozenset({A, B})})
    bus.run()
    results(bus)
    assert bus.sites[C].trained == 0
    assert bus.sites[C].scores


def test_a_trainer_without_the_validator_role_signs_but_does_not_score():
    bus = three(changes={"validators": frozenset({A, B})})
    bus.run()
    results(bus)
    assert bus.sites[C].scores is None


@pytest.mark.parametrize("count", [3, 4, 5])
def test_loss_and_crashes_in_many_schedules(count: int):
    sites = addresses(count)
    for seed in range(20):
        bus = Bus(seed, [setting(site, sites) for site in sites], loss=0.2, crashes=4)
        bus.run()
        assert len(results(bus)) == 1, f"two results; replay with seed {seed} and {count} sites"
        assert not bus.accused, f"an honest site was accused; replay with seed {seed} and {count} sites"


STEPS = (UpdateHeader, Vote, ScoreCommit, ScoreReveal, RoundResult)


@pytest.mark.parametrize("moment", ["before the disk", "after the disk"])
@pytest.mark.parametrize("body", STEPS, ids=lambda body: body.__name__)
def test_a_crash_at_any_step_never_signs_twice(body: type, moment: str):
    for seed in range(5):
        bus = three(seed)
        left = {A: 1, B: 1}

        def die(site: Site, action: Action, left: dict[str, int] = left) -> bool:
            name = site.setting.site
            is_it = isinstance(action, Send) and isinstance(action.body, body)
            is_it |= isinstance(action, Encode) and body is UpdateHeader
            if is_it and left.get(name, 0):
                left[name] -= 1
                return True
            return False

        if moment == "before the disk":
            bus.crash_before_disk = die
        else:
            bus.crash_after_disk = die
        bus.run()
        assert len(results(bus)) == 1, f"seed {seed}"
        assert not bus.accused
        assert not any(left.values()), "the crash never happened"


def began(site: str = A) -> machine.State:
    state, actions = machine.step(machine.resume(setting(site, SITES), []), Begin())
    assert Train() in actions
    return state


def test_an_update_from_another_base_or_of_no_trainer_does_not_count():
    state = machine.resume(setting(A, SITES, trainers=frozenset({A, B})), [])
    state, _ = machine.step(state, Begin())
    for stranger in (header(B, base=b"\x02" * 32), header(C), header(B, round_number=2)):
        state, _ = machine.step(state, UpdateArrived(stranger))
    assert not state.updates


def test_two_headers_for_one_update_are_proof_of_a_lie():
    state, actions = machine.step(began(), Heard(header(B)))
    state, again = machine.step(state, UpdateArrived(header(B)))
    state, next_round = machine.step(state, UpdateArrived(header(B, round_number=2)))
    assert not [action for action in actions + again + next_round if isinstance(action, Accuse)]
    other = header(B, base=b"\x03" * 32)
    state, actions = machine.step(state, Heard(other))
    (accused,) = [action for action in actions if isinstance(action, Accuse)]
    assert accused == Accuse(*((m.body, m.envelope.signature) for m in (header(B), other)))
    _, actions = machine.step(state, UpdateArrived(other))
    assert not [action for action in actions if isinstance(action, Accuse)], "once is enough"


def test_a_message_of_another_round_is_a_programming_error():
    with pytest.raises(ValueError, match="another round"):
        machine.step(began(), Heard(header(B, round_number=2)))


def test_an_update_that_only_the_proposer_has_is_fetched():
    from covey_chain.types import Proposal

    state, _ = machine.step(began(C), Elapsed(Deadline.UPDATES))
    data = selection.encode({A: header(A).digest, B: header(B).digest})
    proposer = state.epoch.proposer(1, 0)
    body = Proposal(state.setting.task_id, 1, 0, 0, -1, selection.value(data), proposer)
    _, actions = machine.step(state, Heard(signed(proposer, body, data)))
    assert {action.digest for action in actions if isinstance(action, Fetch)} == {header(A).digest, header(B).digest}


def test_a_result_that_others_certified_without_us_calls_for_catching_up():
    state = began()
    other = RoundResult(state.setting.task_id, 1, 0, b"\x05" * 32, *(bytes(32),) * 4, 0, True, False)
    asked: list[Action] = []
    for site in SITES:
        state, actions = machine.step(state, Heard(signed(site, other)))
        asked += actions
    assert asked.count(CatchUp()) == 1


def test_a_reveal_that_contradicts_its_commitment_does_not_count():
    lie = ScoreReveal(setting(B, SITES).task_id, 1, B, bytes(32), hashlib.sha256(b"x").digest())
    bus = three()
    bus.at(0.0, lambda: [site.others.setdefault(signed(B, lie)) for site in bus.sites.values()])
    bus.at(0.5, lambda: [bus.feed(s, Heard(signed(B, lie))) for n, s in bus.sites.items() if n != B])
    bus.run()
    (result,) = results(bus)
    counted = selection.decode(bus.sites[A].state.selections[result.scores_root])
    assert counted[B] != signed(B, lie).digest


def test_phases_go_only_forward():
    seen: list[Phase] = []
    bus = three()
    original = bus.feed

    def feed(site: Site, event: object) -> None:
        original(site, event)  # type: ignore[arg-type]
        if site.setting.site == A and (not seen or seen[-1] != site.state.phase):
            seen.append(site.state.phase)

    bus.feed = feed  # type: ignore[assignment, method-assign]
    bus.run()
    order = list(Phase)
    assert [order.index(phase) for phase in seen] == sorted({order.index(phase) for phase in seen})
    assert seen[-1] == Phase.CERTIFIED


def test_step_leaves_the_old_state_alone():
    state = machine.resume(setting(A, SITES), [])
    machine.step(state, Begin())
    machine.step(state, Heard(header(B)))
    assert state == machine.resume(setting(A, SITES), [])


def test_the_bus_is_deterministic():
    first, second = three(7, loss=0.2, crashes=2), three(7, loss=0.2, crashes=2)
    first.run()
    second.run()
    assert (first.now, first.sequence) == (second.now, second.sequence)
    assert isinstance(first.random, Random)
