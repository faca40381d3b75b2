"""A small network, trained at all members at once: the members are the first axis of every tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from covey_exchange.manifest import Array
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from covey_bench.incentives.data import Bag

Model = Mapping[str, Array]


@dataclass(frozen=True)
class Net:
    """A multilayer perceptron with one hidden layer, and how it is trained inside a member.

    Attributes:
        features: of a record.
        hidden: units.
        classes: of the label; 1 is one logit of two classes, as in the example.
        gelu: activation; ReLU if not.
        rate: of the inner optimiser.
        adam: AdamW, as the trainer takes by default; SGD with momentum 0.9 if not.
        batch: records a step.
    """

    features: int
    hidden: int
    classes: int
    gelu: bool
    rate: float
    adam: bool
    batch: int

    def initial(self, seed: int) -> dict[str, Array]:
        """Weights as PyTorch's linear layers start, float32."""
        rng = np.random.default_rng([4, seed])
        shapes = [(self.hidden, self.features), (self.classes, self.hidden)]
        model: dict[str, Array] = {}
        for name, shape in zip(("hidden", "out"), shapes, strict=True):
            bound = shape[1] ** -0.5
            model[f"{name}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
            model[f"{name}.bias"] = rng.uniform(-bound, bound, shape[0]).astype(np.float32)
        return model

    def logits(self, stack: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Models [m, ...] and records [m, n, f] (or [1, n, f] for all models) to [m, n, classes]."""
        x = x.expand(len(stack["out.bias"]), -1, -1)
        hidden = torch.baddbmm(stack["hidden.bias"].unsqueeze(1), x, stack["hidden.weight"].transpose(1, 2))
        active = functional.gelu(hidden) if self.gelu else hidden.relu()
        return torch.baddbmm(stack["out.bias"].unsqueeze(1), active, stack["out.weight"].transpose(1, 2))

    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """Loss of every record, [m, n]."""
        m, n, _ = logits.shape
        y = y.expand(m, n)
        if self.classes == 1:
            return functional.binary_cross_entropy_with_logits(logits.squeeze(-1), y.float(), reduction="none")
        return functional.cross_entropy(logits.reshape(m * n, -1), y.reshape(-1), reduction="none").view(m, n)

    def hits(self, logits: Tensor, y: Tensor) -> Tensor:
        """Whether each record is told right, [m, n]."""
        guess = (logits.squeeze(-1) > 0).long() if self.classes == 1 else logits.argmax(-1)
        return guess == y


class Trainees:
    """All members' inner optimisers; their state is kept from round to round, as a site's trainer does."""

    def __init__(self, net: Net, base: Model, bags: Sequence[Bag], seed: int) -> None:
        self._net, self._rng, self._bags = net, np.random.default_rng([5, seed]), bags
        self._stack = {
            name: torch.tensor(np.stack([value] * len(bags)), requires_grad=True) for name, value in base.items()
        }
        parameters = list(self._stack.values())
        self._optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(parameters, lr=net.rate)
            if net.adam
            else torch.optim.SGD(parameters, lr=net.rate, momentum=0.9)
        )

    def train(self, base: Model, steps: int) -> dict[str, Array]:
        """Pseudo-gradients base - local of all members, [members, ...]."""
        with torch.no_grad():
            for name, value in base.items():
                self._stack[name].copy_(torch.from_numpy(value).expand_as(self._stack[name]))
        for _ in range(steps):
            drawn = [self._rng.integers(0, len(y), self._net.batch) for _, y in self._bags]
            x = torch.from_numpy(np.stack([bag[0][i] for bag, i in zip(self._bags, drawn, strict=True)]))
            y = torch.from_numpy(np.stack([bag[1][i] for bag, i in zip(self._bags, drawn, strict=True)]))
            self._optimizer.zero_grad()
            torch.autograd.backward(self._net.losses(self._net.logits(self._stack, x), y).mean(1).sum())
            self._optimizer.step()
        return {name: base[name] - value.detach().numpy() for name, value in self._stack.items()}


def evaluate(net: Net, models: Sequence[Model], bags: Sequence[Bag]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Summed losses and hits of every model on every bag: two arrays [models, bags], in float64."""
    stack = {name: torch.from_numpy(np.stack([model[name] for model in models])) for name in models[0]}
    x = torch.from_numpy(np.concatenate([bag[0] for bag in bags]))
    y = torch.from_numpy(np.concatenate([bag[1] for bag in bags]))
    starts = np.cumsum([0] + [len(bag[1]) for bag in bags[:-1]])
    with torch.no_grad():
        logits = net.logits(stack, x.unsqueeze(0))
        losses, hits = net.losses(logits, y), net.hits(logits, y)
    both = (np.add.reduceat(found.double().numpy(), starts, axis=1) for found in (losses, hits))
    return next(both), next(both)
