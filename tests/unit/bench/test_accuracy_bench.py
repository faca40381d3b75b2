"""What the accuracy benchmark rests on: a fair deal, an honest criterion, rounds in which error feedback matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from covey_api.task import CompressionSpec
from covey_bench.accuracy import COMPRESSION, MARGIN_POINTS, Job, Loss, Run, compare, reached, train
from covey_bench.programs import TASKS, deal
from covey_bench.rounds import Round, play
from covey_trainer import baseline

SHORT = replace(TASKS["wdbc"], rounds=12, local_steps=10, alpha=5.0)
STRONGEST = {"codec": "DGC", "density": "0.001", "dgc": {"warmupRounds": 0}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stored(folder: Path) -> list[bytes]:
    with np.load(folder / "records.npz") as found:
        return [x.tobytes() for x in found["x"]]


@pytest.mark.parametrize("name", TASKS)
def test_each_record_is_at_one_site_or_in_the_test_set(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    tested: list[bytes] = []
    for fold in range(task.folds):
        sites, test = deal(task, 7, fold, tmp_path / f"{fold}")
        parts = [stored(site) for site in sites]
        assert min(map(len, parts)) >= 32
        everything = sorted(sum(parts, stored(test)))
        assert len(stored(test)) == pytest.approx(len(everything) / task.parts, rel=0.06)
        tested += stored(test)
    assert len(tested) <= len(everything)
    if task.folds == task.parts:
        assert sorted(tested) == everything


def test_a_seed_deals_the_same_again_and_another_seed_does_not(tmp_path: Path) -> None:
    dealt = [deal(SHORT, seed, 0, tmp_path / f"{turn}")[0][0] for turn, seed in enumerate((1, 1, 2))]
    one, again, other = (stored(site) for site in dealt)
    assert one == again
    assert one != other


def play_short(compression: Mapping[str, object], folder: Path, feedback: bool = True) -> tuple[float, list[Round]]:
    """Accuracy in per cent, and the rounds."""
    sites, test = deal(SHORT, 0, 0, folder)
    terms = SHORT.terms(CompressionSpec.model_validate(compression))
    rounds = list(play(terms, 0, sites, feedback=feedback))
    return 100 * baseline.test(terms, rounds[-1].model, test).metrics["accuracy"], rounds


def test_a_thousandth_of_the_values_learns_with_error_feedback_and_not_without(tmp_path: Path) -> None:
    dense, _ = play_short({"codec": "None"}, tmp_path / "dense")
    sparse, rounds = play_short(STRONGEST, tmp_path / "sparse")
    forgetful, _ = play_short(STRONGEST, tmp_path / "forgetful", feedback=False)
    assert dense > 95
    assert sparse > dense - 10
    assert forgetful < sparse - 10
    assert rounds[-1].payload_bytes < 4 * 300


def test_a_discarded_round_leaves_the_model_and_is_not_the_end_of_learning(tmp_path: Path) -> None:
    task = replace(TASKS["wdbc"], rounds=30, local_steps=10)
    sites, _ = deal(task, 0, 0, tmp_path)
    terms = task.terms(CompressionSpec.model_validate({"codec": "None"}))
    strict = terms.model_copy(update={"validation": terms.validation.model_copy(update={"margin": "0.05"})})
    rounds = list(play(strict, 0, sites))
    discarded = [done.number for done in rounds if not done.accepted]
    assert discarded
    assert any(done.accepted and done.number > discarded[0] for done in rounds)
    for before, after in pairwise(rounds):
        same = all(np.array_equal(before.model[name], after.model[name]) for name in before.model)
        assert same is not after.accepted


def test_a_training_is_the_same_again() -> None:
    job = Job("wdbc", "dgc_1pct", 3, 1, 25)
    assert train(job) == train(job)


def test_a_longer_training_begins_like_a_shorter_one() -> None:
    short, long = (train(Job("wdbc", "dgc_1pct", 3, 1, rounds)).points for rounds in (10, 20))
    assert list(short) == list(range(1, 11))
    assert list(long) == list(range(2, 21, 2))
    assert all(long[number] == short[number] for number in range(2, 11, 2))


def test_the_interval_is_students() -> None:
    loss = Loss.of([0.1, 0.3, -0.1, 0.2, 0.0])
    assert loss.mean == pytest.approx(0.1)
    assert loss.error == pytest.approx(0.0707107, rel=1e-5)
    assert (loss.low, loss.high) == pytest.approx((0.1 - 2.776445 * 0.0707107, 0.1 + 2.776445 * 0.0707107), rel=1e-5)
    assert loss.bound == pytest.approx(0.1 + 2.131847 * 0.0707107, rel=1e-5)


@pytest.mark.parametrize(
    ("losses", "met"),
    [
        ([0.0, 0.1, -0.1], True),
        ([MARGIN_POINTS + 0.1] * 3, False),
        ([-5.0, 0.0, 5.0], False),  # no loss on average, but too noisy to say so
    ],
)
def test_a_codec_passes_only_if_its_loss_is_known_to_be_small(losses: list[float], met: bool) -> None:
    runs = {
        Job("wdbc", codec, seed, fold, 30): Run(
            {30: 90 + seed - (losses[seed] if codec == "dgc_1pct" else 0)}, 100, 0.0
        )
        for codec, seed, fold in product(COMPRESSION, range(3), range(2))
    }
    figures, details = compare(runs)
    verdicts = {figure.name: figure.met for figure in figures if figure.goal is not None}
    assert verdicts.pop("accuracy_loss_bound_dgc_1pct_wdbc") is met
    assert set(verdicts) == {f"accuracy_loss_bound_{codec}_wdbc" for codec in ("sparseloco_1_64", "dgc_5pct")}
    assert set(details) == {"wdbc"}


def test_some_codecs_alone_are_compared_with_no_compression() -> None:
    runs = {
        Job("text", codec, seed, 0, 10): Run({10: 60}, 100, 0.0) for codec in ("dense", "dgc_1pct") for seed in (0, 1)
    }
    figures, details = compare(runs)
    assert {name: list(codecs) for name, codecs in details.items() if isinstance(codecs, dict)} == {
        "text": ["dense", "dgc_1pct"]
    }
    assert [figure.name for figure in figures if figure.goal is not None] == ["accuracy_loss_bound_dgc_1pct_text"]


@pytest.mark.parametrize(
    ("accuracy", "expected"), [(0, 0), (25, 5), (50, 10), (65, 15), (80, 20), (81, 25), (82, 30), (99, 40)]
)
def test_the_round_at_which_a_curve_first_had_an_accuracy(accuracy: float, expected: float) -> None:
    assert reached({10: 50, 20: 80, 30: 82, 40: 81}, accuracy) == pytest.approx(expected)
