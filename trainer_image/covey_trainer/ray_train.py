"""Training on a site's Ray cluster: Ray Train's data-parallel trainer, one `fit()` for the whole task.

`ray.train.torch.TorchTrainer` would import torch into the driver and into Ray Train's controller, both in the head
pod, for nothing but to pass an address to the workers (two times 0.5 GB). Its base class does the same work without;
the workers form their process group themselves (`covey_trainer.ray_worker.process_group`).

Nothing is checkpointed: parameters are in the validator's state, so the site's nodes need no shared storage. The inner
optimiser's state lives in the workers and starts anew when their group is restarted.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import zip_longest
from pathlib import Path
from typing import Any

import ray
from covey_api.terms import TaskTerms
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from covey_trainer.errors import TrainerError, WorkersFailed
from covey_trainer.executor import Evaluation, Initialised, Parameters, Trained
from covey_trainer.mailbox import INITIALISE, Command, Mailbox

log = logging.getLogger(__name__)

MAX_GROUP_FAILURES = 3
STOP_SECONDS = 10.0
WATCH_SECONDS = 2.0  # how often a wait for an outcome looks whether the worker group still lives
_RAY_TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # a cold `import torch` on a busy node takes its time
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # it warns programs that checkpoint; here a round is simply done again
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


class _Trainer(DataParallelTrainer):
    """Ray Train without two actors of its own: each costs a process, and there is no Ray Data and no cluster to share.

    The cleaner of placement groups, for a cluster that outlives its job, would also complain every second that there is
    no dashboard.
    """

    def _create_default_callbacks(self) -> list[Any]:
        unused = (DatasetsCallback, PlacementGroupCleanerCallback)
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, unused)]


class RayExecutor:
    """An `Executor` on the Ray cluster that this process is connected to (`ray.init` has been called)."""

    ray_version: str = ray.__version__

    def __init__(
        self,
        workers: int,
        resources_per_worker: Mapping[str, float],
        data: Path,
        storage: Path = Path("/tmp/covey"),  # noqa: S108
    ) -> None:
        """Prepare.

        Args:
            workers: Ray Train workers of the site.
            resources_per_worker: Ray resources of each, for example {"CPU": 1, "GPU": 1}.
            data: directory of the member's records as the workers see it.
            storage: scratch directory of Ray Train on this node.
        """
        self.workers = workers
        self._resources = dict(resources_per_worker)
        self._data = data
        self._storage = storage
        self._mailbox: Any = None
        self._fit: Future[object] = Future()
        self._number = INITIALISE

    def initialise(self, terms: TaskTerms, seed: int) -> Initialised:
        """See `Executor.initialise`; starts the worker group."""
        os.environ.update(_RAY_TRAIN_ENVIRONMENT)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote(self.workers)
        trainer = _Trainer(
            _work,
            train_loop_config={"terms": terms.canonical(), "seed": seed, "data": self._data, "mailbox": self._mailbox},
            scaling_config=ScalingConfig(
                num_workers=self.workers,
                use_gpu=self._resources.get("GPU", 0) > 0,
                resources_per_worker=self._resources,
            ),
            run_config=RunConfig(
                name=terms.name,
                storage_path=str(self._storage),
                failure_config=FailureConfig(max_failures=MAX_GROUP_FAILURES),
            ),
        )
        # A daemon: a group that does not come to an end must not keep this process from ending.
        threading.Thread(target=self._run, args=(trainer,), name="ray-train-fit", daemon=True).start()
        initialised: Initialised = self._outcome(INITIALISE)[0]
        return initialised

    def train(self, base: Parameters, round_number: int) -> Trained:
        """See `Executor.train`; all workers step together."""
        trained: Trained = self._ask("train", [base], round_number=round_number)[0]
        return trained

    def evaluate(self, candidates: Sequence[Parameters], metrics: bool) -> list[Evaluation]:
        """See `Executor.evaluate`; the candidates are dealt out to the workers."""
        shares = self._ask("evaluate", candidates, metrics=metrics)
        return [evaluation for row in zip_longest(*shares) for evaluation in row if evaluation is not None]

    def close(self) -> None:
        """Let the workers stop; those that do not within seconds end with the cluster."""
        if self._mailbox is None:
            return
        mailbox, self._mailbox = self._mailbox, None
        try:
            ray.get(mailbox.stop.remote(), timeout=STOP_SECONDS)
        except RayError as error:
            log.warning("the workers could not be told to stop: %s", error)
            return
        try:
            self._fit.exception(timeout=STOP_SECONDS)
        except TimeoutError:
            log.warning("the workers have not stopped within %.0f s", STOP_SECONDS)

    def _run(self, trainer: _Trainer) -> None:
        try:
            self._fit.set_result(trainer.fit())
        except (Exception, SystemExit) as error:  # the latter when Ray is shut down; whoever waits is told
            self._fit.set_exception(error)

    def _ask(self, kind: Any, parameters: Sequence[Parameters], **details: Any) -> list[Any]:  # noqa: ANN401
        self._number += 1
        references = tuple(ray.put(dict(each)) for each in parameters)
        command = Command(number=self._number, kind=kind, parameters=references, **details)
        try:
            ray.get(self._mailbox.post.remote(command))
        except RayError as error:
            raise _lost(error) from error
        return self._outcome(self._number)

    def _outcome(self, number: int) -> list[Any]:
        try:
            while True:
                ended = self._fit.done()  # read before the mailbox: what a group left there before it ended counts
                outcome = ray.get(self._mailbox.outcome.remote(number, 0.0 if ended else WATCH_SECONDS))
                if isinstance(outcome, TrainerError):
                    raise outcome
                if outcome is not None:
                    return list(outcome)
                if ended:
                    raise _lost(self._fit.exception())
        except RayError as error:
            raise _lost(error) from error


def _work(config: dict[str, Any]) -> None:
    # Imported in the worker: this module is used in the head pod, which has no use for torch.
    from covey_trainer.ray_worker import Assignment, work

    work(Assignment(TaskTerms.parse(config["terms"]), config["seed"], config["data"], config["mailbox"]))


def _lost(error: BaseException | None) -> WorkersFailed:
    detail = "they ended without an error" if error is None else f"{type(error).__name__}: {error}".splitlines()[0]
    return WorkersFailed(
        f"The site's workers were lost ({detail}).",
        "See the logs of the worker pods; too little memory (OOMKilled) is the usual cause.",
    )
