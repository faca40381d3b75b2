"""A data set's records as canonical bytes, and back: what a member commits to, opens, and an auditor evaluates.

A record is what the program's data set gives: a tensor, a number, or nested tuples, lists and dictionaries of them. Its
bytes are a safetensors file of its leaves, named by their places, which has one form for one content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from covey_api.quantity import ratio
from covey_api.terms import TaskTerms
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.utils.data import Dataset

from covey_trainer.errors import DataInvalid
from covey_trainer.executor import Evaluation, Parameters
from covey_trainer.network import Network, records, size
from covey_trainer.program import load
from covey_trainer.sampling import split_holdout

_SEQUENCE, _MAPPING = "#", "."  # ".x/#0" is the first of the sequence under key x; a lone leaf has no name


def to_bytes(record: Any) -> bytes:  # noqa: ANN401 - programs decide
    """A record's canonical bytes.

    Raises:
        DataInvalid: it holds something else than tensors, numbers, and sequences and dictionaries of them.
    """
    leaves: dict[str, torch.Tensor] = {}
    _flatten(record, "", leaves)
    return save_tensors(leaves)


def from_bytes(data: bytes) -> Any:  # noqa: ANN401 - programs decide
    """The record in canonical bytes; numbers come back as tensors without dimensions, which collate alike.

    Raises:
        DataInvalid: they are none.
    """
    try:
        leaves = load_tensors(data)
    except SafetensorError as error:
        raise DataInvalid(f"An opened record cannot be read: {error}.", "Open it again.") from error
    found: Any = _nest({tuple(name.split("/")) if name else (): leaf for name, leaf in leaves.items()})
    return found


def all_of(entrypoint: str, config: Mapping[str, Any], directory: Path) -> list[bytes]:
    """The canonical records of a folder.

    Raises:
        TrainerError: program or data are not usable.
    """
    data = records(load(entrypoint, config), [directory])
    return [to_bytes(data[index]) for index in range(size(data))]


def holdout_of(terms: TaskTerms, seed: int, directory: Path) -> list[bytes]:
    """The canonical records that a member's site holds out in a task.

    Raises:
        TrainerError: program or data are not usable.
    """
    found = all_of(terms.program.entrypoint, terms.program.config, directory)
    _, held_out = split_holdout(len(found), ratio(terms.validation.holdout_fraction), seed)
    return [found[index] for index in held_out]


class Examiner:
    """A program and opened records.

    Attributes:
        initial: the model that the task began with.
    """

    def __init__(self, terms: TaskTerms, seed: int, opened: Sequence[bytes]) -> None:
        """Raises `TrainerError`: program or records are not usable."""
        self._data = _Opened([from_bytes(record) for record in opened])
        self._network = Network(load(terms.program.entrypoint, terms.program.config), seed, torch.device("cpu"))
        self.initial: Parameters = self._network.snapshot()

    def evaluate(self, models: Sequence[Parameters]) -> list[Evaluation]:
        """Losses of models on the records, in the order given."""
        indices = torch.arange(len(self._data)).numpy()
        return [self._network.evaluate(each, self._data, indices, metrics=False) for each in models]


class _Opened(Dataset[Any]):
    def __init__(self, opened: Sequence[Any]) -> None:
        self._records = opened

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401 - programs decide
        return self._records[index]


def _flatten(value: Any, name: str, leaves: dict[str, torch.Tensor]) -> None:  # noqa: ANN401 - programs decide
    prefix = f"{name}/" if name else ""
    if isinstance(value, torch.Tensor):
        leaves[name] = value.detach().cpu().contiguous().clone()
    elif isinstance(value, bool | int):
        leaves[name] = torch.tensor(value)
    elif isinstance(value, float):
        leaves[name] = torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str) or "/" in key:
                raise DataInvalid(f"A record has the key {key!r}.", "Let keys be strings without a slash.")
            _flatten(each, f"{prefix}{_MAPPING}{key}", leaves)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            _flatten(each, f"{prefix}{_SEQUENCE}{number}", leaves)
    else:
        _flatten_array(value, name, leaves)


def _flatten_array(value: Any, name: str, leaves: dict[str, torch.Tensor]) -> None:  # noqa: ANN401 - programs decide
    try:
        leaves[name] = torch.as_tensor(value).clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataInvalid(
            f"A record holds {type(value).__name__}, which has no canonical bytes.",
            "Let data() give tensors and numbers where members shall be able to appeal.",
        ) from error


def _nest(leaves: Mapping[tuple[str, ...], torch.Tensor]) -> Any:  # noqa: ANN401 - programs decide
    if () in leaves:
        return leaves[()]
    inner: dict[str, dict[tuple[str, ...], torch.Tensor]] = {}
    for path, leaf in leaves.items():
        inner.setdefault(path[0], {})[path[1:]] = leaf
    if all(key.startswith(_SEQUENCE) for key in inner):
        return tuple(_nest(inner[f"{_SEQUENCE}{number}"]) for number in range(len(inner)))
    return {key[len(_MAPPING) :]: _nest(each) for key, each in inner.items()}
