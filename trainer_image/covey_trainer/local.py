"""Training in this process, without Ray: `python -m covey_trainer.local`, as `covey simulate` starts it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import torch
from covey_api.terms import TaskTerms

from covey_trainer.driver import Driver
from covey_trainer.executor import Evaluation, Initialised, Parameters, Trained
from covey_trainer.learner import Learner
from covey_trainer.process import run_to_exit
from covey_trainer.settings import DriverSettings


class LocalExecutor:
    """One worker, on the CPU of this process."""

    workers = 1
    ray_version = ""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._learner: Learner | None = None

    def initialise(self, terms: TaskTerms, seed: int) -> Initialised:
        """See `Executor.initialise`."""
        self._learner = Learner(terms, seed, [self._data])
        return self._learner.initialised()

    def train(self, base: Parameters, round_number: int) -> Trained:
        """See `Executor.train`."""
        return self._ready.train(base, round_number)

    def evaluate(self, candidates: Sequence[Parameters], metrics: bool) -> list[Evaluation]:
        """See `Executor.evaluate`."""
        return self._ready.evaluate(candidates, metrics)

    def close(self) -> None:
        """Drop model and data."""
        self._learner = None

    @property
    def _ready(self) -> Learner:
        assert self._learner is not None, "initialise() comes first"
        return self._learner


@click.command(help="Run the round loop's training side in this process.")
@click.option("--socket", type=click.Path(path_type=Path), required=True, help="The validator's Unix socket.")
@click.option("--shared", type=click.Path(path_type=Path), required=True, help="Directory shared with the validator.")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Directory with this member's records.")
@click.option("--termination-log", type=click.Path(path_type=Path), help="File for the reason of a failure, as JSON.")
def main(socket: Path, shared: Path, data: Path, termination_log: Path | None) -> None:
    """Command line."""
    torch.set_num_threads(1)  # several sites share the machine; more threads would only get in each other's way
    settings = DriverSettings(socket=socket, shared=shared, termination_log=termination_log)
    run_to_exit(lambda: Driver(LocalExecutor(data), settings).run(), settings.termination_log)


if __name__ == "__main__":
    main()
