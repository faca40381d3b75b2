"""The learning itself, in one process: a whole site's, or one rank of several that step together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from covey_api.quantity import ratio
from covey_api.terms import TaskTerms
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from covey_trainer.errors import DataInvalid, ProgramError
from covey_trainer.executor import Evaluation, Initialised, Parameters, Trained
from covey_trainer.network import Network, records, size
from covey_trainer.program import batch_size, build_optimizer, load
from covey_trainer.sampling import batches, noise_seed, split_holdout


class Learner:
    """Program, data, model and inner optimiser of one rank.

    With `world` > 1 the process group must be initialised; every rank makes the same calls in the same order. The
    outcome does not depend on the number of ranks but for the order of floating-point sums (and for noise that the
    program draws, such as dropout).
    """

    def __init__(
        self,
        terms: TaskTerms,
        seed: int,
        directories: Sequence[Path],
        *,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
        batch_factor: int = 1,
    ) -> None:
        """Load program and data.

        Args:
            terms: of the task.
            seed: of the task.
            directories: folders of records; a site has one.
            rank: of this process among the site's workers.
            world: number of the site's workers.
            device: of this worker; default is the CPU.
            batch_factor: multiplies the program's batch size.

        Raises:
            EntrypointNotFound, ProgramError, DataInvalid: see `covey_trainer.program`.
        """
        config = terms.program.config
        self._seed, self._rank, self._world, self._steps = seed, rank, world, terms.rounds.local_steps
        program = load(terms.program.entrypoint, config)
        self._data = records(program, directories)
        fraction = ratio(terms.validation.holdout_fraction)
        self._training, self._holdout = split_holdout(size(self._data), fraction, seed)
        if len(self._training) < world:
            raise DataInvalid(
                f"{len(self._training)} records are left to train on with {world} workers.",
                "Provide more records, or ask the Planner for fewer workers or a smaller holdoutFraction.",
            )
        self._batch_size = min(batch_size(program, config) * batch_factor, len(self._training))
        if self._batch_size < world:
            raise ProgramError(
                f"A batch of {self._batch_size} records cannot be shared by {world} workers.",
                "Raise the batch size or ask for fewer workers in spec.workers.replicas.",
            )
        self._network = Network(program, seed, device or torch.device("cpu"))
        self._optimizer = build_optimizer(program, self._network.model, config)
        self._forward: nn.Module = self._network.objective
        if world > 1:
            # Programs may leave parameters unused in some steps, as they may in a single process.
            self._forward = DistributedDataParallel(self._forward, find_unused_parameters=True)

    def initialised(self) -> Initialised:
        """The model as built, and the sizes of the split."""
        return Initialised(self._network.snapshot(), len(self._training), len(self._holdout))

    def train(self, base: Parameters, round_number: int) -> Trained:
        """Take `rounds.localSteps` optimiser steps from `base`; the optimiser's state is kept for the next round.

        Raises:
            ProgramError: the loss became NaN or infinite, or the program raised.
        """
        network = self._network
        network.load(base)
        network.model.train()
        torch.manual_seed(noise_seed(self._seed, round_number, self._rank))
        order = batches(self._training, self._batch_size, self._steps, self._seed, round_number)
        loss_sum = torch.zeros((), dtype=torch.float64, device=network.device)
        for batch in network.read(self._data, (indices[self._rank :: self._world] for indices in order)):
            self._optimizer.zero_grad()
            losses = self._forward(batch)
            # DistributedDataParallel averages gradients over ranks; this makes it the mean over the site's batch.
            (losses.sum() * (self._world / self._batch_size)).backward()
            self._optimizer.step()
            loss_sum += losses.detach().double().sum()
        if self._world > 1:
            dist.all_reduce(loss_sum)
            # Ranks have seen different records, so their running statistics differ; rank 0's become everybody's.
            for buffer in network.model.buffers():
                dist.broadcast(buffer, 0)
        local = network.snapshot()
        samples = self._steps * self._batch_size
        loss = float(loss_sum) / samples
        if not np.isfinite(loss) or not all(np.isfinite(array).all() for array in local.values()):
            raise ProgramError(
                f"Training diverged in round {round_number}: loss {loss}.",
                "Lower program.config.learningRate or rounds.localSteps and apply a new task.",
            )
        return Trained({name: base[name] - array for name, array in local.items()}, samples, loss)

    def evaluate(self, candidates: Sequence[Parameters], metrics: bool) -> list[Evaluation]:
        """Losses (and metrics) of parameter sets on the holdout, by this rank alone.

        Raises:
            ProgramError: the program raised.
        """
        return [self._network.evaluate(each, self._data, self._holdout, metrics) for each in candidates]
