"""Training on a real local Ray cluster with two workers, held against training in one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import ray
from covey_api.task import TaskSpec
from covey_api.terms import TaskTerms
from covey_trainer.errors import DataInvalid
from covey_trainer.local import LocalExecutor
from covey_trainer.ray_train import RayExecutor

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

SEED = 11
RECORDS = 60

PROGRAM = """
    import os, signal
    from pathlib import Path

    import torch
    from torch.utils.data import TensorDataset

    from covey_trainer.errors import DataInvalid


    class Program:
        '''Linear regression; kills its own process at the first record of round two, once.'''

        def __init__(self, config):
            self.fatal = Path(config["fatal"]) if "fatal" in config else None

        def model(self):
            return torch.nn.Linear(4, 1)

        def data(self, directory):
            if not (directory / "x.pt").exists():
                raise DataInvalid("x.pt is missing.", "Put it there.")
            x = torch.load(directory / "x.pt")
            return TensorDataset(x, x.sum(dim=1))

        def loss(self, model, batch):
            if self.fatal and model.training and self.fatal.exists():
                self.fatal.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            x, y = batch
            return (model(x).squeeze(1) - y) ** 2

        def metrics(self, model, batch):
            x, y = batch
            return {"bias": float((model(x).squeeze(1) - y).mean())}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    modules = tmp_path_factory.mktemp("modules")
    (modules / "line_program.py").write_text(dedent(PROGRAM))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(modules))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(modules), *filter(None, [os.environ.get("PYTHONPATH")])]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=80_000_000)
        yield
        ray.shutdown()


def terms(**config: str) -> TaskTerms:
    spec = TaskSpec.model_validate(
        {
            "subnet": "s",
            "bounty": {"amount": "1"},
            "program": {"image": "i", "entrypoint": "line_program:Program", "config": {"learningRate": 0.01, **config}},
            "data": {"schema": "line"},
            "rounds": {"count": 3, "localSteps": 6},
        }
    )
    return TaskTerms.of("line", spec)


@pytest.fixture
def executor(cluster: None, tmp_path: Path) -> Iterator[RayExecutor]:
    executor = RayExecutor(2, {"CPU": 1}, tmp_path / "data", tmp_path / "ray-train")
    yield executor
    executor.close()


def test_two_workers_learn_what_one_process_learns_and_a_killed_worker_is_replaced(
    executor: RayExecutor, tmp_path: Path
) -> None:
    import torch

    data, fatal = tmp_path / "data", tmp_path / "fatal"
    data.mkdir()
    torch.save(torch.randn(RECORDS, 4, generator=torch.Generator().manual_seed(1)), data / "x.pt")
    alone = LocalExecutor(data)
    expected = alone.initialise(terms(), SEED)
    started = executor.initialise(terms(fatal=str(fatal)), SEED)
    base = started.parameters
    assert (started.train_examples, started.holdout_examples) == (48, 12)
    assert all(np.array_equal(base[name], expected.parameters[name]) for name in expected.parameters)

    first, reference = executor.train(base, 1), alone.train(base, 1)
    assert (first.samples, pytest.approx(first.loss)) == (reference.samples, reference.loss)
    for name, delta in reference.delta.items():
        np.testing.assert_allclose(first.delta[name], delta, rtol=1e-4, atol=1e-6)

    moved = {name: array - first.delta[name] for name, array in base.items()}
    candidates = [base, moved, base]
    for seen, wanted in zip(
        executor.evaluate(candidates, metrics=True), alone.evaluate(candidates, metrics=True), strict=True
    ):
        assert seen.examples == 12
        assert seen.loss_sum == pytest.approx(wanted.loss_sum)
        assert seen.metrics["bias"] == pytest.approx(wanted.metrics["bias"])

    fatal.touch()
    second = executor.train(moved, 2)
    assert not fatal.exists(), "a worker has killed itself in this round"
    # The new workers began with a fresh optimiser, as a fresh process does.
    fresh = LocalExecutor(data)
    fresh.initialise(terms(), SEED)
    for name, delta in fresh.train(moved, 2).delta.items():
        np.testing.assert_allclose(second.delta[name], delta, rtol=1e-4, atol=1e-6)


def test_an_error_of_the_data_reaches_the_driver_with_its_remedy(executor: RayExecutor, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(DataInvalid, match=r"x\.pt is missing\. Put it there\."):
        executor.initialise(terms(), SEED)
