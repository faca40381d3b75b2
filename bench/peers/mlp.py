"""The model of the comparison: an MLP of 24.2 M float32 parameters (96.8 MB), one SGD step on random data."""

import os
import time

import torch
from torch import nn

HIDDEN = int(os.environ["BENCH_HIDDEN"])
torch.set_num_threads(1)


class Net(nn.Sequential):
    """784 - H - H - H/4 - 10."""

    def __init__(self):
        super().__init__(
            nn.Linear(784, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN // 4),
            nn.ReLU(),
            nn.Linear(HIDDEN // 4, 10),
        )


def step(model):
    """One step by hand: torch.optim imports torch._dynamo at first use, and Flower starts a process for every round.

    With weight decay, so that every parameter changes.
    """
    loss = nn.functional.cross_entropy(model(torch.randn(8, 784)), torch.randint(0, 10, (8,)))
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad + 1e-3 * parameter, alpha=0.01)
    return loss.item()


def mark(what):
    """Append `what unix-time` to the marks of the run."""
    with open(os.environ["BENCH_MARKS"], "a") as out:
        out.write(f"{what} {time.time():.6f}\n")
