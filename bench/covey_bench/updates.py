"""Four real updates: what the parameters of a model become in some optimiser steps on real data, nothing downloaded.

Only parameters that are trained travel, as in a task: no running statistics of normalisation, no frozen base of LoRA.
"""

from __future__ import annotations

import pydoc_data.topics
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from covey_exchange.manifest import Array
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor, nn
from torch.nn import functional

ROUNDS = 2
STEPS = 8
CONTEXT = 64
WIDTH = 512
LAYERS = 4
RANK = 64

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Trained:
    """The pseudo-gradients of some rounds."""

    name: str
    rounds: list[dict[str, Array]]

    @property
    def parameters(self) -> int:
        return sum(value.size for value in self.rounds[0].values())


def all_updates() -> Iterator[Trained]:
    """One after the other, so that only one model is in memory."""
    torch.manual_seed(0)
    yield _train("mlp", _mlp(), _table(*load_breast_cancer(return_X_y=True)), learning_rate=1e-3)
    images, digits = load_digits(return_X_y=True)
    yield _train("resnet18", ResNet18(), _table(images, digits, (1, 8, 8)), learning_rate=1e-3)
    transformer = Transformer()
    yield _train("transformer", transformer, _text(), learning_rate=3e-4)
    yield _train("lora", _with_adapters(transformer), _text(), learning_rate=1e-3)


def _train(name: str, model: nn.Module, batches: Batches, learning_rate: float) -> Trained:
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(trained.values(), lr=learning_rate)
    rounds = []
    for _ in range(ROUNDS):
        before = {key: p.detach().clone() for key, p in trained.items()}
        for _ in range(STEPS):
            inputs, targets = next(batches)
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(model(inputs), targets))
            optimiser.step()
        rounds.append({key: (before[key] - p.detach()).numpy() for key, p in trained.items()})
    return Trained(name, rounds)


def _table(records: Array, labels: Array, shape: tuple[int, ...] = ()) -> Batches:
    standardised = (records - records.mean(axis=0)) / (records.std(axis=0) + 1e-6)
    inputs = torch.from_numpy(standardised.astype(np.float32)).reshape(len(records), *(shape or (-1,)))
    targets = torch.from_numpy(labels.astype(np.int64))
    rng = np.random.default_rng(0)
    while True:
        rows = rng.choice(len(inputs), 32)
        yield inputs[rows], targets[rows]


def documentation() -> bytes:
    """Python's own documentation."""
    return "\n".join(pydoc_data.topics.topics[key] for key in sorted(pydoc_data.topics.topics)).encode()


def _text() -> Batches:
    """The documentation, byte by byte."""
    data = torch.from_numpy(np.frombuffer(documentation(), dtype=np.uint8).astype(np.int64))
    rng = np.random.default_rng(0)
    while True:
        starts = rng.integers(0, len(data) - CONTEXT - 1, 8)
        block = torch.stack([data[start : start + CONTEXT + 1] for start in starts.tolist()])
        yield block[:, :-1], block[:, 1:].reshape(-1)


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(30, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(),
        nn.Linear(1024, 2),
    )  # fmt: skip


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        narrow = before == width and stride == 1
        self.past: nn.Module = (
            nn.Identity()
            if narrow
            else nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.past(x))


class ResNet18(nn.Module):
    """ResNet-18 with a stem for small images: 11.2 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        widths = [64, 64, 128, 256, 512]
        stages = [
            nn.Sequential(_Block(before, width, 1 if width == 64 else 2), _Block(width, width, 1))
            for before, width in pairwise(widths)
        ]
        stem = [nn.Conv2d(1, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        self.body = nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x)
        return found


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = [t.unflatten(-1, (8, -1)).transpose(1, 2) for t in self.queries(self.first(x)).chunk(3, dim=-1)]
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        fed: Tensor = x + self.down(functional.gelu(self.up(self.second(x))))
        return fed


class Transformer(nn.Module):
    """A decoder over bytes; 12.9 M parameters unless smaller ones are asked for."""

    def __init__(self, width: int = WIDTH, layers: int = LAYERS) -> None:
        super().__init__()
        self.token, self.place = nn.Embedding(256, width), nn.Embedding(CONTEXT, width)
        self.layers = nn.Sequential(*[_Attention(width) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        found: Tensor = self.head(self.norm(self.layers(x))).flatten(0, 1)
        return found


class _Adapter(nn.Module):
    """LoRA (arXiv:2106.09685) beside a frozen linear layer."""

    def __init__(self, frozen: nn.Linear) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, RANK, bias=False)
        self.up = nn.Linear(RANK, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.frozen(x) + self.up(self.down(x))
        return found


def _with_adapters(model: Transformer) -> nn.Module:
    model.requires_grad_(False)
    for layer in model.layers:
        for name in ("queries", "out", "up", "down"):
            setattr(layer, name, _Adapter(getattr(layer, name)))
    return model
