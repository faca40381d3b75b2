"""The learning itself, in one process: a whole site's, or one rank of several that step together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from covey_api.quantity import ratio
from covey_api.terms import TaskTerms
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from covey_trainer.errors import DataInvalid, ProgramError, TrainerError
from covey_trainer.executor import Evaluation, Initialised, Parameters, Trained
from covey_trainer.program import Batch, Program, batch_size, broken, build_optimizer, load
from covey_trainer.sampling import Indices, batches, noise_seed, split_holdout

EVALUATION_BATCH = 256
_SEED_LIMIT = 2**63  # torch.manual_seed takes signed 64-bit values


class _Objective(nn.Module):
    """Model and loss as one module: the forward pass that DistributedDataParallel hooks is the program's whole loss."""

    def __init__(self, program: Program, model: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        try:
            losses = self.program.loss(self.model, batch)
        except TrainerError:
            raise
        except Exception as error:
            raise broken("loss()", error) from error
        if not isinstance(losses, torch.Tensor) or losses.ndim != 1 or not losses.is_floating_point():
            shape = tuple(losses.shape) if isinstance(losses, torch.Tensor) else type(losses).__name__
            raise ProgramError(
                f"loss() returned {shape}.", 'Return one float per example, shape [B] (reduction="none").'
            )
        return losses


class Learner:
    """Program, data, model and inner optimiser of one rank.

    With `world` > 1 the process group must be initialised; every rank makes the same calls in the same order. The
    outcome does not depend on the number of ranks but for the order of floating-point sums.
    """

    def __init__(
        self,
        terms: TaskTerms,
        seed: int,
        directory: Path,
        *,
        rank: int = 0,
        world: int = 1,
        device: torch.device | None = None,
    ) -> None:
        """Load program and data.

        Raises:
            EntrypointNotFound, ProgramError, DataInvalid: see `covey_trainer.program`.
        """
        config = terms.program.config
        self._terms, self._seed, self._rank, self._world = terms, seed, rank, world
        self._device = device or torch.device("cpu")
        self._program = load(terms.program.entrypoint, config)
        self._data = _records(self._program, directory)
        self._training, self._holdout = split_holdout(
            len(cast(Any, self._data)), ratio(terms.validation.holdout_fraction), seed
        )
        if len(self._training) < world:
            raise DataInvalid(
                f"{len(self._training)} records are left to train on with {world} workers.",
                "Provide more records, or ask the Planner for fewer workers or a smaller holdoutFraction.",
            )
        self._batch_size = min(batch_size(self._program, config), len(self._training))
        if self._batch_size < world:
            raise ProgramError(
                f"A batch of {self._batch_size} records cannot be shared by {world} workers.",
                "Raise the batch size or ask for fewer workers in spec.workers.replicas.",
            )
        model = _seeded_model(self._program, seed).to(self._device)
        self._parameters = _trainable(model)
        self._optimizer = build_optimizer(self._program, model, config)
        self._objective = _Objective(self._program, model)
        self._forward: nn.Module = self._objective
        if world > 1:
            # Programs may leave parameters unused in some steps, as they may in a single process.
            self._forward = DistributedDataParallel(self._objective, find_unused_parameters=True)

    def initialised(self) -> Initialised:
        """The model as built, and the sizes of the split."""
        return Initialised(self._snapshot(), len(self._training), len(self._holdout))

    def train(self, base: Parameters, round_number: int) -> Trained:
        """Take `rounds.localSteps` optimiser steps from `base`; the optimiser's state is kept for the next round.

        Raises:
            ProgramError: the loss became NaN or infinite, or the program raised.
        """
        self._load(base)
        torch.manual_seed(noise_seed(self._seed, round_number, self._rank))
        steps = self._terms.rounds.local_steps
        order = batches(self._training, self._batch_size, steps, self._seed, round_number)
        loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._objective.model.train()
        for batch in self._batches(indices[self._rank :: self._world] for indices in order):
            self._optimizer.zero_grad()
            losses = self._forward(batch)
            # DistributedDataParallel averages gradients over ranks; this makes it the mean over the site's batch.
            (losses.sum() * (self._world / self._batch_size)).backward()
            self._optimizer.step()
            loss_sum += losses.detach().double().sum()
        if self._world > 1:
            dist.all_reduce(loss_sum)
            # Ranks have seen different records, so their running statistics differ; rank 0's become everybody's.
            for buffer in self._objective.model.buffers():
                dist.broadcast(buffer, 0)
        local = self._snapshot()
        samples = steps * self._batch_size
        loss = float(loss_sum) / samples
        if not np.isfinite(loss) or not all(np.isfinite(array).all() for array in local.values()):
            raise ProgramError(
                f"Training diverged in round {round_number}: loss {loss}.",
                "Lower program.config.learningRate or rounds.localSteps and apply a new task.",
            )
        return Trained({name: base[name] - array for name, array in local.items()}, samples, loss)

    def evaluate(self, candidates: Sequence[Parameters], metrics: bool) -> list[Evaluation]:
        """Losses (and metrics) of parameter sets on the local holdout, by this rank alone; the base is not kept."""
        return [self._evaluate(candidate, metrics) for candidate in candidates]

    def _evaluate(self, candidate: Parameters, metrics: bool) -> Evaluation:
        if not len(self._holdout):
            return Evaluation(0.0, 0)
        self._load(candidate)
        model = self._objective.model.eval()
        loss_sum = 0.0
        with torch.inference_mode():
            parts = np.array_split(self._holdout, -(-len(self._holdout) // EVALUATION_BATCH))
            for batch in self._batches(parts):
                loss_sum += float(self._objective(batch).double().sum())
            values = self._metrics(model) if metrics else {}
        return Evaluation(loss_sum, len(self._holdout), values)

    def _metrics(self, model: nn.Module) -> dict[str, float]:
        for batch in self._batches([self._holdout]):
            try:
                return {str(name): float(value) for name, value in self._program.metrics(model, batch).items()}
            except TrainerError:
                raise
            except Exception as error:
                raise broken("metrics()", error) from error
        return {}

    def _batches(self, indices: Iterable[Indices]) -> Iterator[Any]:
        loader = iter(DataLoader(self._data, batch_sampler=(list(map(int, part)) for part in indices)))
        while True:
            try:
                batch = next(loader)
            except StopIteration:
                return
            except TrainerError:
                raise
            except Exception as error:
                raise broken("reading a record", error) from error
            yield _to(batch, self._device)

    def _snapshot(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        return {name: parameter.detach().cpu().numpy().copy() for name, parameter in self._parameters.items()}

    def _load(self, values: Parameters) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(torch.tensor(values[name]))


def _seeded_model(program: Program, seed: int) -> nn.Module:
    torch.manual_seed(seed % _SEED_LIMIT)
    try:
        model = program.model()
    except TrainerError:
        raise
    except Exception as error:
        raise broken("model()", error) from error
    if not isinstance(model, nn.Module):
        raise ProgramError(f"model() returned {type(model).__name__}.", "Return a torch.nn.Module.")
    return model


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise ProgramError("The model has no trainable parameter.", "Nothing could be learnt: unfreeze some.")
    for name, parameter in parameters.items():
        if parameter.dtype != torch.float32:
            raise ProgramError(
                f'Parameter "{name}" is {parameter.dtype}.',
                "Exchanged parameters are float32; keep the master weights in float32 and cast inside forward().",
            )
        if parameter.numel() == 0 or not bool(torch.isfinite(parameter).all()):
            raise ProgramError(f'Parameter "{name}" is empty or not finite.', "Initialise it with finite numbers.")
    return parameters


def _records(program: Program, directory: Path) -> Dataset[Any]:
    try:
        data = program.data(directory)
        examples = len(cast(Any, data))
    except TrainerError:
        raise
    except FileNotFoundError as error:
        raise DataInvalid(
            f'The data set has no file "{Path(str(error.filename)).name}".',
            "Check claimName and path of the Subnet's data set, and that it follows the task's schema.",
        ) from error
    except Exception as error:
        raise broken("data()", error) from error
    if examples == 0:
        raise DataInvalid("The data set holds no record.", "Check claimName and path of the Subnet's data set.")
    return data


def _to(batch: Batch, device: torch.device) -> Batch:
    """Move tensors inside nested tuples, lists and dictionaries."""
    if isinstance(batch, torch.Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _to(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        moved = [_to(value, device) for value in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)
    return batch
