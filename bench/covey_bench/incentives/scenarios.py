"""The scenarios: three tasks, honest members, attackers, and what each is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from covey_bench.incentives import data
from covey_bench.incentives.attacks import LEARNERS
from covey_bench.incentives.auditing import Evidence
from covey_bench.incentives.federation import Task
from covey_bench.incentives.learning import Net
from covey_bench.incentives.outturn import Money, Scenario

_MARGIN = Fraction(1, 20)
DIGITS = Task("digits", Net(64, 64, 10, False, 0.1, False, 32), data.digits, 60, 5, Fraction(1, 20), 1.0, _MARGIN)
TUMOURS = Task("tumours", Net(30, 64, 1, True, 0.002, True, 32), data.tumours, 60, 5, Fraction(1, 20), 0.7, _MARGIN)
# As examples/wdbc/task.yaml has it, but for twice its rounds: it takes six epochs to remove a member.
HOSPITALS = Task(
    "hospitals", Net(30, 256, 1, True, 0.002, True, 32), data.hospitals, 40, 20, Fraction(1, 64), 0.7, _MARGIN
)

SIX = (*["right"] * 6, "left")
EIGHT = (*["right"] * 8, "left")
SIX_ALIKE = ("right",) * 7
EVERYBODY = (*["right"] * 9, "left")


def scenarios() -> list[Scenario]:
    """All of them, in the order of the table."""
    return [*_digits(), *_tumours(), *_hospitals(), *_rivals()]


def reference(scenario: Scenario) -> Scenario | None:
    """The same records and seeds without those that are not honest; None if all are."""
    attackers = frozenset(scenario.roles) - set(LEARNERS)
    if not attackers or scenario.absent:
        return None
    plain = tuple(role if role in LEARNERS else "right" for role in scenario.roles)
    roles = tuple(role if role in LEARNERS else "absent" for role in scenario.roles)
    assert len(plain) == len(roles)
    return Scenario(f"{scenario.task.name} without", scenario.task, roles, absent=frozenset({"absent"}))


def _digits() -> Iterator[Scenario]:
    yield Scenario("no attacker", DIGITS, EVERYBODY)
    for attackers in (
        ("noise", "flip", "sign"),
        ("sign5", "zero", "stale"),
        ("fake", "stolen", "invent"),
        ("copy", "noise", "zero"),
        ("liar-noise",) * 3,
        ("liar-flip",) * 3,
        ("liar",) * 3,
    ):
        name = f"3 x {attackers[0]}" if len(set(attackers)) == 1 else ", ".join(attackers)
        yield Scenario(name, DIGITS, (*SIX, *attackers))
    for attacker in ("target", "trigger", "blend", "late"):
        yield Scenario(attacker, DIGITS, (*EIGHT, attacker))
    yield Scenario("audit set", DIGITS, (*SIX, "noise", "flip", "fake"), Evidence.AUDIT_SET)
    yield Scenario("no evidence", DIGITS, (*SIX, "noise", "flip", "fake"), Evidence.NONE)
    yield Scenario("blind auditor", DIGITS, (*SIX, "fake", "invent", "zero"), Evidence.BLIND_AUDITOR)


def _tumours() -> Iterator[Scenario]:
    yield Scenario("no attacker", TUMOURS, ("right",) * 10)
    for attackers in (
        ("noise", "flip", "sign"),
        ("sign5", "zero", "stale"),
        ("fake", "copy", "noise"),
        ("liar-noise",) * 3,
    ):
        name = f"3 x {attackers[0]}" if len(set(attackers)) == 1 else ", ".join(attackers)
        yield Scenario(name, TUMOURS, (*SIX_ALIKE, *attackers))


def _hospitals() -> Iterator[Scenario]:
    yield Scenario("no attacker", HOSPITALS, ("right",) * 3)
    for attacker in ("noise", "flip", "sign", "zero"):
        yield Scenario(attacker, HOSPITALS, ("right", "right", attacker))


def _rivals() -> Iterator[Scenario]:
    honest, attacked = (
        Scenario("no attacker", DIGITS, EVERYBODY),
        Scenario("noise, flip, sign", DIGITS, (*SIX, "noise", "flip", "sign")),
    )
    lying = Scenario("3 x liar-flip", DIGITS, (*SIX, *["liar-flip"] * 3))
    skewed = Scenario("noise, flip, sign", TUMOURS, (*SIX_ALIKE, "noise", "flip", "sign"))
    three = Scenario("sign", HOSPITALS, ("right", "right", "sign"))
    for money in (Money.STAKE, Money.FLOCK):
        for scenario in (honest, attacked, lying, skewed, three):
            yield replace(scenario, money=money)
