"""From runs to numbers: rows for people, figures with goals for programs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from covey_bench.incentives.attacks import DEGRADERS, LEARNERS
from covey_bench.incentives.auditing import Evidence
from covey_bench.incentives.outturn import Money, Outturn, Run, Scenario
from covey_bench.incentives.scenarios import reference
from covey_bench.report import Figure

Found = Mapping[Scenario, Sequence[Run]]

DIP = (0.5, 5.0)  # per cent of stake: penalised slightly
TENTH = 0.1


@dataclass(frozen=True)
class Row:
    """One role of one scenario, over all seeds; money in per cent of stake."""

    role: str
    count: int
    net: tuple[float, float, float]
    held_most: float
    removed_share: float
    removed_epoch: float
    proven_share: float
    accuracy: float
    note: str

    @property
    def cells(self) -> tuple[str, ...]:
        middle, low, high = self.net
        gone = f"{self.removed_share:.0%}" + (f" (epoch {self.removed_epoch:.0f})" if self.removed_share else "")
        return (
            f"{self.role} x {self.count}" if self.count > 1 else self.role,
            f"{middle:+.1f} [{low:+.1f}, {high:+.1f}]",
            f"{self.held_most:.1f}",
            gone,
            f"{self.proven_share:.0%}",
            f"{100 * self.accuracy:.1f}{self.note}",
        )


def rows(scenario: Scenario, runs: Sequence[Run]) -> Iterator[Row]:
    """One row a role."""
    for role in dict.fromkeys(scenario.roles):
        all_of = [member for run in runs for member in run.members if member.role == role]
        net = np.quantile([member.net for member in all_of], [0.5, 0.1, 0.9])
        epochs = [member.removed for member in all_of if member.removed is not None]
        note = ""
        if role == "trigger":
            note = f"; backdoor {_mean(run.backdoor for run in runs):.0%}"
        if role == "target":
            note = f"; 7 as 1 {_mean(run.misread for run in runs):.0%}"
        yield Row(
            role,
            scenario.roles.count(role),
            (float(net[0]), float(net[1]), float(net[2])),
            float(np.median([member.held_most for member in all_of])),
            len(epochs) / len(all_of),
            float(np.median(epochs)) if epochs else 0.0,
            _mean(member.proven for member in all_of),
            _mean(member.accuracy for member in all_of),
            note,
        )


def as_figures(scenario: Scenario, runs: Sequence[Run]) -> Iterator[Figure]:
    """The rows for programs: nets with their spread, removals, accuracy."""
    start = " / ".join((scenario.task.name, scenario.name, scenario.money.value, scenario.evidence.value))
    for row in rows(scenario, runs):
        middle, low, high = row.net
        yield Figure(f"{start} / {row.role} / net_median", middle, "% of stake")
        yield Figure(f"{start} / {row.role} / net_10", low, "% of stake")
        yield Figure(f"{start} / {row.role} / net_90", high, "% of stake")
        yield Figure(f"{start} / {row.role} / removed_share", row.removed_share, "")
        yield Figure(f"{start} / {row.role} / accuracy", row.accuracy, "")


def headline(found: Found, without: Found) -> list[Figure]:
    """What the issue asks for, over all scenarios in which the rule pays and there is evidence that sees records."""
    ours = {s: r for s, r in found.items() if s.money is Money.RULE}
    seeing = {s: r for s, r in ours.items() if s.evidence in (Evidence.AUDITOR, Evidence.AUDIT_SET)}
    left = [(member, run) for runs in seeing.values() for run in runs for member in _of(run, ["left"])]
    degraders = [
        (s, member, run)
        for s, runs in seeing.items()
        for run in runs
        for member in _of(run, DEGRADERS)
        if not (s.evidence is Evidence.BLIND_AUDITOR and member.role == "invent")
    ]
    honest = [member for runs in seeing.values() for run in runs for member in _of(run, LEARNERS)]
    figures = [
        Figure("left_dipped_share", _mean(DIP[0] <= m.held_most <= DIP[1] for m, _ in left), "", 0.9),
        Figure("left_removed_share", _mean(m.removed is not None for m, _ in left), "", 0.0, "lower"),
        Figure("left_above_median_share", _mean(m.net > _median(run, ["right"]) for m, run in left), "", 0.9),
        Figure("degraders_removed_share", _mean(m.removed is not None for _, m, _ in degraders), "", 0.95),
        Figure("degraders_below_tenth_share", _mean(_is_poor(m, run) for _, m, run in degraders), "", 0.95),
        Figure("honest_removed_share", _mean(m.removed is not None for m in honest), "", 0.01, "lower"),
        Figure("accuracy_loss_points", _worst_loss(seeing, without), "points", 2.0, "lower"),
    ]
    for task in dict.fromkeys(s.task.name for s in seeing):
        some = [(m, run) for s, m, run in degraders if s.task.name == task]
        good = [m for s, runs in seeing.items() if s.task.name == task for run in runs for m in _of(run, LEARNERS)]
        some_seeing = {s: r for s, r in seeing.items() if s.task.name == task}
        figures += [
            Figure(f"{task}_degraders_removed_share", _mean(m.removed is not None for m, _ in some), ""),
            Figure(f"{task}_degraders_below_tenth_share", _mean(_is_poor(m, run) for m, run in some), ""),
            Figure(f"{task}_honest_removed_share", _mean(m.removed is not None for m in good), "", None, "lower"),
            Figure(f"{task}_accuracy_loss_points", _worst_loss(some_seeing, without), "points", None, "lower"),
        ]
    for money in (Money.STAKE, Money.FLOCK):
        theirs = [run for s, runs in found.items() if s.money is money for run in runs]
        lefts = [(m, run) for run in theirs for m in _of(run, ["left"])]
        bad = [(m, run) for run in theirs for m in _of(run, DEGRADERS)]
        kept = [m for run in theirs for m in _of(run, LEARNERS)]
        name = money.name.lower()
        figures += [
            Figure(f"{name}_left_above_median_share", _mean(m.net > _median(run, ["right"]) for m, run in lefts), ""),
            Figure(f"{name}_degraders_below_tenth_share", _mean(_is_poor(m, run) for m, run in bad), ""),
            Figure(f"{name}_honest_removed_share", _mean(m.removed is not None for m in kept), "", None, "lower"),
        ]
    return [figure for figure in figures if not math.isnan(figure.value)]


def _worst_loss(found: Found, without: Found) -> float:
    """Mean accuracy of honest members without attackers, less that with them; of the scenario where it is most."""
    losses = []
    for scenario, runs in found.items():
        plain = reference(scenario)
        if plain is None or plain not in without:
            continue
        pairs = [
            (there.accuracy - here.accuracy)
            for run, other in zip(runs, without[plain], strict=True)
            for here, there in zip(run.members, other.members, strict=True)
            if here.role in LEARNERS
        ]
        losses.append(100 * _mean(pairs))
    return max(losses, default=math.nan)


def _is_poor(member: Outturn, run: Run) -> bool:
    return member.net <= TENTH * max(0.0, _median(run, LEARNERS))


def _median(run: Run, roles: Sequence[str]) -> float:
    return float(np.median([member.net for member in _of(run, roles)]))


def _of(run: Run, roles: Sequence[str]) -> list[Outturn]:
    return [member for member in run.members if member.role in roles]


def _mean(values: Iterable[float]) -> float:
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else math.nan
