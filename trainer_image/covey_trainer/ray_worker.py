"""What each Ray Train worker of a site runs: one loop for the whole task. Needs torch; imported by workers only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as dist
from covey_api.terms import TaskTerms
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device
from torch.distributed import TCPStore  # type: ignore[attr-defined] # it is public; its export is not written down

from covey_trainer.errors import TrainerError
from covey_trainer.executor import Evaluation, Initialised, Trained
from covey_trainer.learner import Learner
from covey_trainer.mailbox import INITIALISE, Command

COLLECTIVE_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class Assignment:
    """What a worker must know when it starts."""

    terms: TaskTerms
    seed: int
    data: Path
    mailbox: Any  # handle of the Mailbox actor


def work(assignment: Assignment) -> None:
    """Build program, data and model, then carry out commands until the mailbox says stop.

    A `TrainerError` is posted, so that the driver learns the reason, and raised, so that Ray Train ends the fellow
    workers, which may be waiting in a collective operation. Any other exception makes Ray Train restart the group.
    """
    mailbox = assignment.mailbox
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    if ray.get(mailbox.stopped.remote()):
        return
    device = get_device()
    assert isinstance(device, torch.device), "a Covey worker has at most one GPU to itself"
    try:
        with process_group(rank, world, device):
            learner = Learner(
                assignment.terms, assignment.seed, [assignment.data], rank=rank, world=world, device=device
            )
            answer(mailbox, INITIALISE, rank, learner.initialised() if rank == 0 else None)
            known = INITIALISE
            while not ray.get(mailbox.stopped.remote()):
                command: Command | None = ray.get(mailbox.command.remote(known))
                if command is not None:
                    answer(mailbox, command.number, rank, carry_out(learner, command, rank, world))
                    known = command.number
    except TrainerError as error:
        ray.get(mailbox.fail.remote(error))
        raise


def carry_out(learner: Learner, command: Command, rank: int, world: int) -> Trained | list[Evaluation] | None:
    """Train with the fellow workers, or evaluate this worker's share of the candidates."""
    if command.kind == "train":
        trained = learner.train(ray.get(command.parameters[0]), command.round_number)
        return trained if rank == 0 else None
    share = [ray.get(reference) for reference in command.parameters[rank::world]]
    return learner.evaluate(share, command.metrics)


def answer(mailbox: Any, number: int, rank: int, outcome: Initialised | Trained | list[Evaluation] | None) -> None:  # noqa: ANN401
    """Leave this worker's part of an outcome in the mailbox."""
    ray.get(mailbox.answer.remote(number, rank, outcome))


@contextmanager
def process_group(rank: int, world: int, device: torch.device) -> Iterator[None]:
    """Torch's default process group over the site's workers: gloo on CPUs, NCCL on GPUs; none for a single worker.

    Rank 0 opens a store on a port that the system chooses and tells the others through Ray.
    """
    if world == 1:
        yield
        return
    if rank == 0:
        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        store = TCPStore(host, 0, world, is_master=True, wait_for_workers=False, timeout=COLLECTIVE_TIMEOUT)
        broadcast_from_rank_zero((host, store.port))
    else:
        host, port = broadcast_from_rank_zero(None)
        store = TCPStore(host, port, world, is_master=False, timeout=COLLECTIVE_TIMEOUT)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=COLLECTIVE_TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()
