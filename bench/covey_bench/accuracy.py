"""`make bench-accuracy`: what compression costs in accuracy, next to no compression on the same data and seeds.

python -m covey_bench.accuracy [--seeds N] [--task NAME] [--codec NAME] [--rounds N]

A seed fixes how the records are dealt out, the first model and the order of batches; all codecs get the same. What is
judged was settled before the codecs were measured: a codec loses nothing outside noise if its mean loss is below
`MARGIN_POINTS` with 95 % confidence (one-sided paired t-test, a test of non-inferiority). An interval that merely
contains zero would not do: the noisier the measurement, the easier it would be to pass. The rows "dense_again" are the
noise itself: no compression once more, with another first model and another order. How far a codec is behind, says the
round after which training without compression was as far as the codec is at the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from covey_api.task import CompressionSpec
from covey_trainer import baseline
from rich.console import Console
from rich.table import Table
from scipy import stats

from covey_bench import report
from covey_bench.programs import TASKS, deal
from covey_bench.report import Figure
from covey_bench.rounds import play

MARGIN_POINTS = 0.5
CONFIDENCE = 0.95
CURVE_POINTS = 10
ANOTHER_ORDER = 1000  # added to a seed

REFERENCE, AGAIN = "dense", "dense_again"
COMPRESSION: Mapping[str, Mapping[str, str]] = {
    REFERENCE: {"codec": "None"},
    AGAIN: {"codec": "None"},
    "sparseloco_1_64": {"codec": "SparseLoCo", "density": "1/64"},
    "dgc_5pct": {"codec": "DGC", "density": "0.05"},
    "dgc_1pct": {"codec": "DGC", "density": "0.01"},
    "dgc_0_1pct": {"codec": "DGC", "density": "0.001"},
}
WITHOUT_GOAL = (AGAIN, "dgc_0_1pct")  # the noise, and a density that is known to learn more slowly


@dataclass(frozen=True)
class Job:
    """One training."""

    task: str
    codec: str
    seed: int
    fold: int
    rounds: int


@dataclass(frozen=True)
class Run:
    """What came of it.

    Attributes:
        points: round -> accuracy on the test set in per cent.
        payload_bytes: of all sites in all rounds.
        discarded: share of the rounds.
    """

    points: Mapping[int, float]
    payload_bytes: int
    discarded: float


@dataclass(frozen=True)
class Loss:
    """Paired difference to no compression in points; positive where the codec is worse.

    Attributes:
        mean: over seeds.
        error: standard error of the mean.
        low: of the two-sided 95 % interval.
        high: of the two-sided 95 % interval.
        bound: above which the loss is not, with 95 % confidence.
    """

    mean: float
    error: float
    low: float
    high: float
    bound: float

    @classmethod
    def of(cls, differences: Sequence[float]) -> Loss:
        """From one difference for each seed, two or more."""
        count = len(differences)
        mean, error = float(np.mean(differences)), float(np.std(differences, ddof=1)) / count**0.5
        both, one = (float(stats.t.ppf(q, count - 1)) for q in ((1 + CONFIDENCE) / 2, CONFIDENCE))
        return cls(mean, error, mean - both * error, mean + both * error, mean + one * error)


def train(job: Job) -> Run:
    """One task from the first round to the last."""
    task = replace(TASKS[job.task], rounds=job.rounds)
    terms = task.terms(CompressionSpec.model_validate(COMPRESSION[job.codec]))
    every = -(-task.rounds // CURVE_POINTS)
    points: dict[int, float] = {}
    payload_bytes = discarded = 0
    with tempfile.TemporaryDirectory() as folder:
        sites, test = deal(task, job.seed, job.fold, Path(folder))
        for done in play(terms, job.seed + (ANOTHER_ORDER if job.codec == AGAIN else 0), sites):
            payload_bytes += done.payload_bytes
            discarded += not done.accepted
            if done.number % every == 0 or done.number == task.rounds:
                points[done.number] = 100 * baseline.test(terms, done.model, test).metrics["accuracy"]
    return Run(points, payload_bytes, discarded / task.rounds)


def train_all(jobs: Sequence[Job]) -> dict[Job, Run]:
    """All trainings, one a core; says which have ended."""
    cores = len(os.sched_getaffinity(0))
    runs: dict[Job, Run] = {}
    with multiprocessing.get_context("spawn").Pool(cores, torch.set_num_threads, (1,)) as pool:
        for job, run in zip(jobs, pool.imap(train, jobs), strict=True):
            runs[job] = run
            print(f"{len(runs)} of {len(jobs)}: {job.task}, {job.codec}, seed {job.seed}", flush=True)
    return runs


@dataclass(frozen=True)
class Arm:
    """A codec on a task, over all seeds; a seed's accuracy is the mean of its folds."""

    runs: Mapping[int, Sequence[Run]]

    def points(self, seed: int) -> dict[int, float]:
        """Round -> accuracy in per cent."""
        folds = self.runs[seed]
        return {number: float(np.mean([run.points[number] for run in folds])) for number in folds[0].points}

    def last(self, seed: int) -> float:
        """Accuracy of the task's model in per cent."""
        points = self.points(seed)
        return points[max(points)]

    @property
    def curve(self) -> dict[int, float]:
        """Mean accuracy by round."""
        each = [self.points(seed) for seed in self.runs]
        return {number: float(np.mean([points[number] for points in each])) for number in each[0]}

    def mean(self, field: str) -> float:
        """Of a field of all runs."""
        return float(np.mean([getattr(run, field) for folds in self.runs.values() for run in folds]))


def reached(curve: Mapping[int, float], accuracy: float) -> float:
    """Round at which a curve first has some accuracy, between those that it names; its last one if it never has."""
    before, lower = 0, 0.0
    for number, higher in curve.items():
        if higher >= accuracy:
            return before + (number - before) * (accuracy - lower) / (higher - lower)
        before, lower = number, higher
    return float(before)


def compare(runs: Mapping[Job, Run]) -> tuple[list[Figure], dict[str, object]]:
    """Figures, and what else belongs into the file; prints the tables."""
    figures: list[Figure] = []
    details: dict[str, object] = {}
    for task in dict.fromkeys(job.task for job in runs):
        seeds = sorted({job.seed for job in runs if job.task == task})
        arms = {
            codec: Arm(
                {s: [r for j, r in runs.items() if (j.task, j.codec, j.seed) == (task, codec, s)] for s in seeds}
            )
            for codec in dict.fromkeys(job.codec for job in runs if job.task == task)
        }
        dense = arms[REFERENCE]
        losses = {codec: Loss.of([dense.last(s) - arm.last(s) for s in seeds]) for codec, arm in arms.items()}
        for codec, arm in arms.items():
            figures.append(Figure(f"accuracy_{codec}_{task}", float(np.mean([arm.last(s) for s in seeds])), "%"))
            if codec != REFERENCE:
                loss, goal = losses[codec], None if codec in WITHOUT_GOAL else MARGIN_POINTS
                figures += [
                    Figure(f"accuracy_loss_{codec}_{task}", loss.mean, "points", None, "lower"),
                    Figure(f"accuracy_loss_bound_{codec}_{task}", loss.bound, "points", goal, "lower"),
                    Figure(f"accuracy_as_dense_after_{codec}_{task}", _behind(dense, arm), "rounds"),
                ]
        details[task] = {
            codec: {
                "loss": vars(losses[codec]),
                "seeds": {s: arm.last(s) for s in seeds},
                "curve": arm.curve,
                "discarded": arm.mean("discarded"),
                "payload_bytes": arm.mean("payload_bytes"),
            }
            for codec, arm in arms.items()
        }
        _show(task, arms, losses)
    return figures, details


def _behind(dense: Arm, arm: Arm) -> float:
    curve = arm.curve
    return reached(dense.curve, curve[max(curve)])


def _show(task: str, arms: Mapping[str, Arm], losses: Mapping[str, Loss]) -> None:
    rounds = list(arms[REFERENCE].curve)
    columns = ("accuracy %", "loss, points", "95 % interval", "below", "dense's at round", "smaller", "discarded")
    results = Table("codec", *columns, title=task)
    curves = Table("round", *map(str, rounds), title=f"{task}: accuracy % by round")
    for codec, arm in arms.items():
        loss, curve = losses[codec], arm.curve
        size = arms[REFERENCE].mean("payload_bytes") / arm.mean("payload_bytes")
        spread = (
            f"{loss.mean:+.2f} ± {loss.error:.2f}", f"{loss.low:+.2f} … {loss.high:+.2f}", f"{loss.bound:+.2f}",
            f"{_behind(arms[REFERENCE], arm):.0f}",
        )  # fmt: skip
        of_codec = ("", "", "", "") if codec == REFERENCE else spread
        results.add_row(codec, f"{curve[rounds[-1]]:.2f}", *of_codec, f"{size:.0f} x", f"{arm.mean('discarded'):.0%}")
        curves.add_row(codec, *(f"{curve[number]:.1f}" for number in rounds))
    console = Console(width=120)
    console.print(results)
    console.print(curves)


def main() -> int:
    """Train, print, write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, help="two or more; each task's own number without it")
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one; may be repeated")
    parser.add_argument("--codec", choices=COMPRESSION, action="append", help="only this one beside none; ditto")
    parser.add_argument("--rounds", type=int, help="each task's own number without it")
    options = parser.parse_args()
    if options.seeds is not None and options.seeds < 2:
        parser.error("an interval needs two seeds")
    if options.rounds is not None and options.rounds < 1:
        parser.error("a task has at least one round")
    tasks = options.task or list(TASKS)
    codecs = [codec for codec in COMPRESSION if codec in (REFERENCE, *(options.codec or COMPRESSION))]
    jobs = [
        Job(task, codec, seed, fold, options.rounds or TASKS[task].rounds)
        for task, codec in product(tasks, codecs)
        for seed, fold in product(range(options.seeds or TASKS[task].seeds), range(TASKS[task].folds))
    ]
    figures, details = compare(train_all(jobs))
    report.show("accuracy", figures)
    print(f"written: {report.write('accuracy', figures, details=details).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
