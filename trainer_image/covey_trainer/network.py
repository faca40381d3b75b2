"""A program's model with its exchanged parameters, and the guards around what the program does with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from covey_trainer.errors import DataInvalid, ProgramError, TrainerError
from covey_trainer.executor import Evaluation, Parameters
from covey_trainer.program import Batch, Program, broken
from covey_trainer.sampling import Indices

EVALUATION_BATCH = 256
_SEED_LIMIT = 2**63  # torch.manual_seed takes signed 64-bit values


class Objective(nn.Module):
    """Model and loss as one module: the forward pass that DistributedDataParallel hooks is the program's whole loss."""

    def __init__(self, program: Program, model: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        """Loss of each example, shape [B]."""
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


class Network:
    """The model of a task on one device, built as at every other site."""

    def __init__(self, program: Program, seed: int, device: torch.device) -> None:
        """Build the model under the task's seed.

        Raises:
            ProgramError: model() raised, or its parameters cannot be exchanged.
        """
        self.program = program
        self.device = device
        self.model = _seeded_model(program, seed).to(device)
        self.objective = Objective(program, self.model)
        self._parameters = _trainable(self.model)

    def snapshot(self) -> dict[str, NDArray[np.float32]]:
        """Copies of the exchanged parameters."""
        return {name: parameter.detach().cpu().numpy().copy() for name, parameter in self._parameters.items()}

    def load(self, values: Parameters) -> None:
        """Overwrite the exchanged parameters; names and shapes must be those of `snapshot`."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(torch.tensor(values[name]))

    def evaluate(self, candidate: Parameters, data: Dataset[Any], indices: Indices, metrics: bool) -> Evaluation:
        """Loss (and metrics) of a parameter set, which stays loaded, on some records.

        Raises:
            ProgramError: loss() or metrics() raised.
        """
        if not len(indices):
            return Evaluation(0.0, 0)
        self.load(candidate)
        self.model.eval()
        loss_sum = 0.0
        with torch.inference_mode():
            for batch in self.read(data, np.array_split(indices, -(-len(indices) // EVALUATION_BATCH))):
                loss_sum += float(self.objective(batch).double().sum())
            values = self._metrics(next(self.read(data, [indices]))) if metrics else {}
        return Evaluation(loss_sum, len(indices), values)

    def read(self, data: Dataset[Any], batches: Iterable[Indices]) -> Iterator[Batch]:
        """Collated batches of records, on the model's device.

        Raises:
            ProgramError: the program's data set raised.
        """
        loader = iter(DataLoader(data, batch_sampler=cast(Any, (part.tolist() for part in batches))))
        while True:
            try:
                batch = next(loader)
            except StopIteration:
                return
            except TrainerError:
                raise
            except Exception as error:
                raise broken("reading a record", error) from error
            yield _to(batch, self.device)

    def _metrics(self, batch: Batch) -> dict[str, float]:
        try:
            return {str(name): float(value) for name, value in self.program.metrics(self.model, batch).items()}
        except TrainerError:
            raise
        except Exception as error:
            raise broken("metrics()", error) from error


def records(program: Program, directories: Sequence[Path]) -> Dataset[Any]:
    """All records of some folders, in order.

    Raises:
        DataInvalid: a folder has no records, or they do not follow the schema.
        ProgramError: data() raised.
    """
    parts = [_records(program, directory) for directory in directories]
    return parts[0] if len(parts) == 1 else ConcatDataset(parts)


def size(data: Dataset[Any]) -> int:
    """Number of records of a map-style data set."""
    return len(cast(Any, data))


def _records(program: Program, directory: Path) -> Dataset[Any]:
    try:
        data = program.data(directory)
        examples = size(data)
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
