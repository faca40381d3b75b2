"""The interface between a task's program and Covey, and the loader of programs.

A program is a class with four methods in a module of the task's image. Rules that it can rely on:

* Every trainable parameter is exchanged and must be float32. Parameters with `requires_grad=False` are part of the
  program: built by `model()`, the same everywhere, never sent.
* Buffers are not exchanged. Running statistics of BatchNorm therefore stay at each site and are lost when its workers
  restart; a model that shall be the same everywhere uses GroupNorm or LayerNorm.
* `model()` runs under a seed of the task, so that all sites start alike. Randomness from other sources than torch's
  default generator makes them differ, which ends the task with `BaseModelMismatch`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import torch
from torch import nn
from torch.utils.data import Dataset

from covey_trainer.errors import EntrypointNotFound, ProgramError, TrainerError

Batch: TypeAlias = Any  # what default_collate makes of the data set's items: tensors, or nested tuples or dicts of them

DEFAULT_LEARNING_RATE = 1e-3
DEFAULT_BATCH_SIZE = 32


class Program(Protocol):
    """What a task trains, on what, and how good it is.

    The constructor takes the task's `program.config` as its only argument. Two attributes are optional:
    `optimizer(model) -> torch.optim.Optimizer` (default AdamW with `config.learningRate`) and `batch_size: int`
    (records of one inner step of the whole site; default `config.batchSize` or 32).
    """

    def model(self) -> nn.Module:
        """A new model on the CPU; called under the task's seed."""
        ...

    def data(self, directory: Path) -> Dataset[Any]:
        """All records of the member as a map-style data set; items as `torch.utils.data.default_collate` takes them.

        Raises:
            DataInvalid: records do not follow the schema.
        """
        ...

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Per-example losses, float tensor of shape [B], differentiable with respect to the model's parameters."""
        ...

    def metrics(self, model: nn.Module, batch: Batch) -> Mapping[str, float]:
        """Metrics on one batch that holds the whole holdout; called without gradients."""
        ...


METHODS = ("model", "data", "loss", "metrics")


def load(entrypoint: str, config: Mapping[str, Any]) -> Program:
    """Import and construct the program.

    Args:
        entrypoint: `module:Class`, on the image's import path.
        config: the task's `program.config`, passed to the constructor.

    Raises:
        EntrypointNotFound: no such module or class.
        ProgramError: the module or the constructor raised, or a method is missing.
    """
    module_name, _, class_name = entrypoint.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise EntrypointNotFound(
                f'Module "{module_name}" of entrypoint "{entrypoint}" is not in the image.',
                "Correct spec.program.entrypoint or add the module to the image, and apply a new task.",
            ) from error
        raise ProgramError(
            f'Module "{module_name}" needs "{error.name}", which is not in the image.',
            "Add the package to the image and apply a new task.",
        ) from error
    except Exception as error:
        raise broken(f'import of "{module_name}"', error) from error
    factory = getattr(module, class_name, None)
    if not isinstance(factory, type):
        raise EntrypointNotFound(
            f'Module "{module_name}" has no class "{class_name}".',
            "Correct spec.program.entrypoint (module:Class) and apply a new task.",
        )
    construct = cast(Callable[[Mapping[str, Any]], Program], factory)
    try:
        program = construct(config)
    except TrainerError:
        raise
    except Exception as error:
        raise broken(f"{entrypoint}(config)", error) from error
    missing = [name for name in METHODS if not callable(getattr(program, name, None))]
    if missing:
        raise ProgramError(
            f'Class "{entrypoint}" lacks {", ".join(f"{name}()" for name in missing)}.',
            "A program has the methods model, data, loss and metrics (covey_trainer.program.Program).",
        )
    return program


def broken(where: str, error: Exception) -> ProgramError:
    """The program's own exception, told so that its author finds the line."""
    frames = inspect.getinnerframes(error.__traceback__) if error.__traceback__ is not None else []
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return ProgramError(
        f"{where} raised {type(error).__name__}{place}: {error}.",
        "Mend the program, build a new image and apply a new task; `covey simulate` runs it without a cluster.",
    )


def build_optimizer(program: Program, model: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The program's own optimiser, or AdamW with `config.learningRate` (default 1e-3)."""
    own = getattr(program, "optimizer", None)
    if own is None:
        rate = _positive(config, "learningRate", DEFAULT_LEARNING_RATE)
        return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    try:
        optimizer = own(model)
    except TrainerError:
        raise
    except Exception as error:
        raise broken("optimizer()", error) from error
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ProgramError(f"optimizer() returned {type(optimizer).__name__}.", "Return a torch.optim.Optimizer.")
    return optimizer


def batch_size(program: Program, config: Mapping[str, Any]) -> int:
    """Records of one inner step of the whole site: the program's `batch_size`, `config.batchSize`, or 32."""
    own = getattr(program, "batch_size", None)
    size = _positive(config, "batchSize", DEFAULT_BATCH_SIZE) if own is None else own
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ProgramError(f"The batch size is {size!r}.", "Use a whole number of at least 1.")
    return size


def _positive(config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise ProgramError(f"program.config.{key} is {value!r}.", "Use a number above 0.")
    return value
