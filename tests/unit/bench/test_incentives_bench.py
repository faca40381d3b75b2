"""The scenarios of `make bench-incentives` with one seed: real training, codec, merge, scores, evidence and money."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from covey_bench.incentives import figures
from covey_bench.incentives.auditing import Evidence
from covey_bench.incentives.outturn import Money, Outturn, Run, Scenario
from covey_bench.incentives.run import run
from covey_bench.incentives.scenarios import DIGITS, HOSPITALS, SIX, TUMOURS, reference, scenarios

SIX_EPOCHS = replace(DIGITS, rounds=30)
ATTACKED = Scenario("attacked", DIGITS, (*SIX, "noise", "flip", "sign"))
LADDER = [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]


def of(found: Run, role: str) -> list[Outturn]:
    return [member for member in found.members if member.role == role]


@pytest.fixture(scope="module")
def attacked() -> Run:
    return run(ATTACKED, seed=0)


@pytest.mark.parametrize("role", ["noise", "flip", "sign"])
def test_persistent_degraders_are_slashed_step_by_step_and_removed(attacked: Run, role: str):
    (member,) = of(attacked, role)
    assert member.ladder[:6] == LADDER
    assert (member.removed, member.reward, member.net) == (6, 0, -31.5)


def test_the_left_handed_member_is_held_back_a_little_at_first_and_ends_ahead(attacked: Run):
    (left,) = of(attacked, "left")
    assert 0.5 <= left.held_most <= 5
    assert left.removed is None
    assert left.proven
    assert left.net > median(member.net for member in of(attacked, "right"))


def test_honest_members_keep_their_seats_and_the_model_learns(attacked: Run):
    assert all(member.removed is None and member.net > 0 for member in of(attacked, "right"))
    plain = reference(ATTACKED)
    assert plain is not None
    without = run(plain, seed=0)
    pairs = [
        (a.accuracy, b.accuracy) for a, b in zip(attacked.members, without.members, strict=True) if a.role == "right"
    ]
    assert np.mean([there - here for here, there in pairs]) < 0.02
    assert np.mean([here for here, _ in pairs]) > 0.9


def test_every_epoch_and_the_end_have_a_reason(attacked: Run):
    said = dict(zip((member.role for member in attacked.members), attacked.reasons, strict=True))
    assert said["sign"][0].startswith("held 0.5 % of stake: in epoch 1 this site helped the median holdout -")
    assert said["sign"][5].startswith("removed, and 31.5 % of stake is held: in epoch 6 ")
    assert said["sign"][-1] == "no reward: removed in epoch 6; 31.5 % of stake slashed"
    assert "that nobody else supplied" in said["left"][-1]


def test_a_seed_gives_the_same_money_again(attacked: Run):
    assert run(ATTACKED, seed=0) == attacked


@pytest.mark.parametrize("roles", [("sign5", "zero", "stale"), ("fake", "copy", "invent"), ("liar-noise",) * 3])
def test_other_attackers_are_removed_too_and_nobody_else(roles: tuple[str, ...]):
    found = run(Scenario("others", SIX_EPOCHS, (*SIX, *roles)), seed=0)
    assert {member.role for member in found.members if member.removed} == set(roles)


def test_without_evidence_the_minority_has_no_way_to_be_heard():
    found = run(replace(ATTACKED, task=SIX_EPOCHS, evidence=Evidence.NONE), seed=0)
    (left,) = of(found, "left")
    assert not left.proven
    assert left.net < median(member.net for member in of(found, "right")) / 2


def test_an_auditor_who_cannot_tell_invented_records_pays_for_them():
    found = run(Scenario("blind", DIGITS, (*SIX, "invent"), Evidence.BLIND_AUDITOR), seed=0)
    (invented,) = of(found, "invent")
    assert invented.proven
    assert invented.net > 0


def test_hospitals_and_skewed_tables_lose_the_attacker_alone():
    for task, honest in ((HOSPITALS, 2), (replace(TUMOURS, rounds=30), 7)):
        found = run(Scenario("one", task, (*["right"] * honest, "sign")), seed=0)
        assert [member.removed for member in found.members] == [None] * honest + [6]


def test_other_rules_pay_the_attackers_and_fine_the_minority():
    by_stake = run(replace(ATTACKED, task=SIX_EPOCHS, money=Money.STAKE), seed=0)
    assert len({member.net for member in by_stake.members}) == 1
    flock = run(replace(ATTACKED, money=Money.FLOCK), seed=0)
    (left,) = of(flock, "left")
    assert left.net < -50


def test_the_figures_say_what_the_runs_did(attacked: Run):
    plain = reference(ATTACKED)
    assert plain is not None
    found = {figure.name: figure.value for figure in figures.headline({ATTACKED: [attacked]}, {plain: [attacked]})}
    assert found["left_above_median_share"] == 1
    assert found["degraders_removed_share"] == 1
    assert found["honest_removed_share"] == 0
    assert found["accuracy_loss_points"] == 0
    spoilt = replace(attacked, members=[replace(m, removed=None, reward=50, slashed=0) for m in attacked.members])
    found = {figure.name: figure.value for figure in figures.headline({ATTACKED: [spoilt]}, {})}
    assert found["degraders_removed_share"] == 0
    assert found["degraders_below_tenth_share"] == 0
    assert found["left_above_median_share"] == 0


def test_every_scenario_with_attackers_has_one_without():
    for scenario in scenarios():
        attackers = set(scenario.roles) - {"right", "left"}
        assert (reference(scenario) is None) == (not attackers)
