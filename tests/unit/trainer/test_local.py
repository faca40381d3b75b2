"""Training at a site, in one process, on the example's real records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from covey_api.task import TaskSpec
from covey_api.terms import TaskTerms
from covey_trainer import baseline
from covey_trainer.errors import DataInvalid
from covey_trainer.executor import Parameters
from covey_trainer.local import LocalExecutor
from make_data import main as make_data

SEED = 7


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("records")
    done = CliRunner().invoke(make_data, ["--out", str(out), "--members", "3", "--seed", "0"])
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def terms() -> TaskTerms:
    spec = TaskSpec.model_validate(
        {
            "subnet": "s",
            "bounty": {"amount": "1"},
            "program": {"image": "i", "entrypoint": "wdbc.program:Program", "config": {"learningRate": 0.002}},
            "data": {"schema": "wdbc-v1"},
            "rounds": {"count": 3, "localSteps": 10},
            "validation": {"minHoldout": 10},
            "incentives": {},
        }
    )
    return TaskTerms.of("t", spec)


def same(a: Parameters, b: Parameters) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def started(terms: TaskTerms, data: Path, seed: int = SEED) -> tuple[LocalExecutor, Parameters]:
    executor = LocalExecutor(data)
    return executor, executor.initialise(terms, seed).parameters


def test_all_sites_begin_with_the_same_model(terms: TaskTerms, records: Path) -> None:
    _, first = started(terms, records / "member-1")
    _, second = started(terms, records / "member-2")
    assert same(first, second)
    assert not same(first, started(terms, records / "member-1", SEED + 1)[1])


def test_a_round_gives_the_same_update_again(terms: TaskTerms, records: Path) -> None:
    deltas = []
    for _ in range(2):
        executor, base = started(terms, records / "member-1")
        deltas.append(executor.train(base, 1).delta)
    assert same(*deltas)


def test_the_update_points_from_the_local_model_to_the_base(terms: TaskTerms, records: Path) -> None:
    executor, base = started(terms, records / "member-1")
    trained = executor.train(base, 1)
    local = {name: base[name] - trained.delta[name] for name in base}
    before, after = executor.evaluate([base, local], metrics=True)
    assert after.loss_sum < before.loss_sum
    assert set(after.metrics) == {"auc", "accuracy"}


def test_training_and_holdout_share_no_record_and_miss_none(terms: TaskTerms, records: Path) -> None:
    executor = LocalExecutor(records / "member-1")
    sizes = executor.initialise(terms, SEED)
    with np.load(records / "member-1" / "records.npz") as stored:
        assert sizes.train_examples + sizes.holdout_examples == len(stored["y"])
    assert sizes.holdout_examples == int((sizes.train_examples + sizes.holdout_examples) * 0.2)


def test_a_folder_without_records_is_the_data_owners_to_mend(terms: TaskTerms, tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=r"records\.npz"):
        LocalExecutor(tmp_path).initialise(terms, SEED)


def test_members_records_are_dealt_out_once(records: Path) -> None:
    rows = [np.load(path)["x"] for path in sorted(records.glob("*/records.npz"))]
    assert sum(map(len, rows)) == 569
    assert len(np.unique(np.concatenate(rows), axis=0)) == 569


def test_baselines_learn_to_tell_tumours_apart(terms: TaskTerms, records: Path) -> None:
    members = [records / f"member-{i}" for i in (1, 2, 3)]
    alone = baseline.test(terms, baseline.alone(terms, SEED, members[0]), records / "test")
    pooled = baseline.test(terms, baseline.pooled(terms, SEED, members), records / "test")
    assert alone.metrics["auc"] > 0.9
    assert pooled.metrics["auc"] > 0.9
