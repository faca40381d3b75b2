"""Three tasks on real data that packages bring along, and how their records are dealt out to sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from covey_api.task import CompressionSpec, TaskSpec
from covey_api.terms import TaskTerms
from covey_exchange.manifest import Array
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from covey_bench.updates import CONTEXT, Transformer, documentation

SITES = 4
BLOCK = 4096
LEAST_RECORDS = 32
MARGIN = "1"  # holdouts of some dozen records would throw rounds away by chance; here codecs are compared, not judges

Batch = tuple[Tensor, Tensor]
Rows = NDArray[np.int64]


class _Classifier:
    """Records (x, y) of a site, cross-entropy and accuracy; y has the shape [B] or [B, positions]."""

    def __init__(self, config: Mapping[str, object]) -> None:
        """The task's config is not needed."""

    def data(self, directory: Path) -> TensorDataset:
        with np.load(directory / "records.npz") as stored:
            return TensorDataset(torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"]))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        x, y = batch
        return functional.cross_entropy(model(x), y.reshape(-1), reduction="none").reshape(len(x), -1).mean(dim=1)

    def metrics(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        x, y = batch
        return {"accuracy": float((model(x).argmax(dim=1) == y.reshape(-1)).float().mean())}


class Digits(_Classifier):
    """Handwritten digits of 8 x 8 pixels; a convolutional network of 151 thousand parameters."""

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip


class Tumours(_Classifier):
    """Breast-cancer records of 30 features; a multilayer perceptron of 74 thousand parameters."""

    def model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(30, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 2)
        )  # fmt: skip


class Text(_Classifier):
    """The next byte of Python's documentation; a transformer of 137 thousand parameters."""

    def model(self) -> nn.Module:
        model = Transformer(width=64, layers=2)
        with (
            torch.no_grad()
        ):  # with the default, standard deviation 1, a narrow model long learns nothing but frequencies
            for embedding in (model.token, model.place):
                embedding.weight *= 0.1
        return model


@dataclass(frozen=True)
class Task:
    """A program with its data and terms.

    Attributes:
        program: class in this module.
        rounds: of the task.
        local_steps: of a site in a round.
        learning_rate: of the inner AdamW.
        alpha: concentration of the Dirichlet distribution by which each class is dealt to sites; None: the records have
            an order, and each site gets a stretch of it.
        parts: one part of so many is the test set.
        folds: how many of the parts are it in turn.
        batch_size: records of an inner step of a site.
        holdout: share of a site's records.
        seeds: how many; five, more where differences are small and records few.
    """

    program: type[_Classifier]
    rounds: int
    local_steps: int
    learning_rate: float
    alpha: float | None
    parts: int
    folds: int
    batch_size: int = 32
    holdout: str = "0.2"
    seeds: int = 5

    def terms(self, compression: CompressionSpec) -> TaskTerms:
        """All that is not named here has its default, as in a task that a user writes."""
        spec: dict[str, object] = {
            "subnet": "bench",
            "bounty": {"amount": "1"},
            "program": {
                "image": "bench",
                "entrypoint": f"{__name__}:{self.program.__name__}",
                "config": {"learningRate": self.learning_rate, "batchSize": self.batch_size},
            },
            "data": {"schema": "bench"},
            "members": {"min": SITES, "max": SITES},
            "rounds": {"count": self.rounds, "localSteps": self.local_steps},
            "compression": compression,
            "validation": {"holdoutFraction": self.holdout, "minHoldout": 1, "margin": MARGIN},
            "incentives": {},
        }
        return TaskTerms.of("bench", TaskSpec.model_validate(spec))


TASKS: Mapping[str, Task] = {
    "digits": Task(Digits, 300, 5, 2e-3, 1.0, 3, 1),
    "wdbc": Task(Tumours, 60, 5, 1e-3, 0.5, 3, 3, seeds=20),
    "text": Task(Text, 2000, 4, 5e-3, None, 8, 1, 16, "0.01"),
}


def deal(task: Task, seed: int, fold: int, out: Path) -> tuple[list[Path], Path]:
    """Write the records of each site and the test set; their folders."""
    x, y = _RECORDS[task.program]()
    rng = np.random.default_rng(seed)
    if task.alpha is None:
        blocks = len(x) * CONTEXT // BLOCK
        test_blocks = np.array_split(rng.permutation(blocks), task.parts)[fold]
        tested = np.isin(np.arange(len(x)) * CONTEXT // BLOCK, test_blocks)
        sites: Sequence[Rows] = np.array_split(np.flatnonzero(~tested), SITES)
        test = np.flatnonzero(tested)
    else:
        order = rng.permutation(len(x))
        test = np.array_split(order, task.parts)[fold]
        sites = _dirichlet(np.setdiff1d(order, test), y, task.alpha, rng)
    return [_store(out / f"site-{i}", x[rows], y[rows]) for i, rows in enumerate(sites)], _store(
        out / "test", x[test], y[test]
    )


def _dirichlet(rows: Rows, y: NDArray[np.int64], alpha: float, rng: np.random.Generator) -> list[Rows]:
    """Deal each class in shares of its own (Hsu et al. 2019, arXiv:1909.06335), anew until nobody has too little."""
    while True:
        parts: list[list[Rows]] = [[] for _ in range(SITES)]
        for label in np.unique(y[rows]):
            of_label = rng.permutation(rows[y[rows] == label])
            cuts = (np.cumsum(rng.dirichlet([alpha] * SITES))[:-1] * len(of_label)).astype(int)
            for part, share in zip(parts, np.split(of_label, cuts), strict=True):
                part.append(share)
        dealt = [np.concatenate(part) for part in parts]
        if min(map(len, dealt)) >= LEAST_RECORDS:
            return dealt


def _store(folder: Path, x: NDArray[np.float32] | NDArray[np.int64], y: NDArray[np.int64]) -> Path:
    folder.mkdir(parents=True)
    np.savez(folder / "records.npz", x=x, y=y)
    return folder


def _digits() -> tuple[Array, NDArray[np.int64]]:
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32).reshape(-1, 1, 8, 8), labels.astype(np.int64)


def _tumours() -> tuple[Array, NDArray[np.int64]]:
    records, labels = load_breast_cancer(return_X_y=True)
    return ((records - records.mean(axis=0)) / records.std(axis=0)).astype(np.float32), labels.astype(np.int64)


def _text() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    data = np.frombuffer(documentation(), dtype=np.uint8).astype(np.int64)
    count = (len(data) - 1) // CONTEXT
    return data[: count * CONTEXT].reshape(count, CONTEXT), data[1 : count * CONTEXT + 1].reshape(count, CONTEXT)


_RECORDS: Mapping[type[_Classifier], Callable[[], tuple[Array | Rows, Rows]]] = {
    Digits: _digits,
    Tumours: _tumours,
    Text: _text,
}
