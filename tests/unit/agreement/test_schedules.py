"""Ten thousand seeded schedules: never two certificates, always progress once the network heals, nobody honest accused.

`make soak` plays fresh ones. A failure prints the command that shows its schedule event by event.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from covey_exchange.agreement_state import State, resume
from covey_schedules.machines import BROKEN, SOUND
from covey_schedules.play import play, play_all
from covey_schedules.promises import BrokenPromise
from covey_schedules.setting import SITES_MAX, SITES_MIN, Setting

SCHEDULES, BLOCK = 10_000, 250
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def reached() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("first", range(0, SCHEDULES, BLOCK))
def test_every_promise_holds_in_every_schedule(first: int, reached: Counter[str]):
    seen, broken = play_all(range(first, first + BLOCK))
    reached.update(seen, schedules=BLOCK)

    assert not broken, "\n".join(map(str, broken))


def test_the_schedules_reach_what_they_are_there_for(reached: Counter[str]):
    if reached["schedules"] < SCHEDULES:
        pytest.skip("counts over all schedules, and only some of the tests above were selected to run")

    assert reached["unlocked by proof"] >= 10
    assert reached["crashes"] >= 10_000
    assert reached["accusations"] >= 10_000
    assert reached["forged, refused"] >= 1000
    assert reached["heard twice"] >= 1000
    assert reached["decided in a later view"] >= 10_000
    assert reached["deep views"] >= 250
    assert reached["gone"] >= 3000
    assert reached["disks lost"] >= 1000
    assert reached["decided in a later epoch"] >= 3000


def test_the_schedules_have_3_to_20_sites_and_just_under_a_third_of_the_stake_lies():
    settings = [Setting.draw(seed) for seed in range(SCHEDULES)]

    assert {len(setting.weights) for setting in settings} == set(range(SITES_MIN, SITES_MAX + 1))
    shares = [sum(s.weights[liar] for liar in s.liars) / sum(s.weights.values()) for s in settings]
    assert 0.33 < max(shares) < 1 / 3
    assert sum(share > 0.25 for share in shares) > SCHEDULES / 4


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_certificates_and_accusations_are_proven_by_real_signatures(first: int):
    for seed in range(first, first + 100):
        world = play(seed, real_signatures=True)

        assert {len(vote.signature) for c in world.certificates for vote in c.precommits} == {65}


def test_a_real_signature_changes_nothing_else():
    assert play(7, real_signatures=True).now == play(7).now


def test_a_schedule_is_the_same_in_every_process():
    """Also in one that orders sets in another way."""
    path = os.pathsep.join(str(ROOT / part) for part in ("crds", "contracts", "trainer_image", "dev"))
    script = "from covey_schedules.play import play\nfor seed in range(200): print(play(seed).now)"
    shown = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": order},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for order in ("1", "2", "3")
    }
    assert len(shown) == 1


def test_a_machine_that_fails_breaks_a_promise():
    def fail(*_: object) -> State:
        raise IndexError("tuple index out of range")

    lost = next(seed for seed in range(100) if Setting.draw(seed).crashes)
    calls = iter([resume] * len(Setting.draw(lost).weights))
    machine = replace(SOUND, resume=lambda *arguments: next(calls, fail)(*arguments))
    with pytest.raises(BrokenPromise, match=rf"a machine fails: IndexError.*replay.* {lost}"):
        play(lost, machine)


def find(name: str, seeds: int = 3000) -> BrokenPromise:
    """The first schedule in which a broken machine breaks the promise that it is known to break."""
    machine, promise = BROKEN[name]
    for seed in range(seeds):
        try:
            play(seed, machine)
        except BrokenPromise as problem:
            if problem.promise == promise:
                return problem
    raise AssertionError(f"{seeds} schedules do not show that {name} is broken")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_machine_is_found_out(name: str):
    find(name)


def test_a_failing_seed_is_replayed_by_the_command_that_it_prints():
    command = str(find("half-is-enough")).partition("replay: ")[2].split()
    assert command[:3] == [".venv/bin/python", "-m", "covey_schedules"]
    path = os.pathsep.join(str(ROOT / part) for part in ("crds", "contracts", "trainer_image", "dev"))

    shown = subprocess.run(
        [sys.executable, *command[1:]], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )

    assert shown.returncode == 1
    assert "Certificate" in shown.stdout
    assert "broken: two certificates" in shown.stdout.splitlines()[-1]
