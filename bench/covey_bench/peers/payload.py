"""What travels in every system: an MLP of 24.2 M float32 parameters, and what each site adds to it in a round.

Needs NumPy alone: Flower's and FLARE's sites import this file in environments of their own.
"""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTHS = (784, 4096, 4096, 1024, 10)
STEP = 1e-3  # standard deviation of a change
MARKS, DELTAS, SITE = "COVEY_BENCH_MARKS", "COVEY_BENCH_DELTAS", "COVEY_BENCH_SITE"

Arrays = dict[str, NDArray[np.float32]]


def shapes() -> dict[str, tuple[int, ...]]:
    """As PyTorch names the parameters of a Sequential of linear layers and activations."""
    found: dict[str, tuple[int, ...]] = {}
    for layer, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        found[f"{2 * layer}.weight"], found[f"{2 * layer}.bias"] = (outputs, inputs), (outputs,)
    return found


def parameters() -> int:
    return sum(int(np.prod(shape)) for shape in shapes().values())


def initial() -> Arrays:
    """The same model everywhere; every layer is scaled to its inputs."""
    rng = np.random.default_rng(0)
    return {name: _normal(rng, shape, 1 / np.sqrt(shape[-1])) for name, shape in shapes().items()}


def delta(site: int) -> Arrays:
    """The pseudo-gradient of one site, float32, dense."""
    rng = np.random.default_rng(1 + site)
    return {name: _normal(rng, shape, STEP) for name, shape in shapes().items()}


def _normal(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> NDArray[np.float32]:
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def keep_deltas(folder: Path, sites: int) -> None:
    """For `Trainer`, flat and in the order of the names."""
    for site in range(sites):
        made = delta(site)
        np.save(folder / f"{site}.npy", np.concatenate([made[name].reshape(-1) for name in shapes()]))


class Trainer:
    """Local training that costs next to nothing, in a peer's process; it finds its site in the environment."""

    def __init__(self) -> None:
        site = os.environ[SITE]
        self._flat = np.load(Path(os.environ[DELTAS]) / f"{site}.npy", mmap_mode="r")
        self._marks = Path(os.environ[MARKS]) / site

    def train(self, weights: Arrays, round_number: int) -> Arrays:
        """New weights, after a mark that training has begun."""
        mark(self._marks, round_number)
        moved, start = {}, 0
        for name, shape in shapes().items():
            size = int(np.prod(shape))
            moved[name] = weights[name].reshape(shape) - self._flat[start : start + size].reshape(shape)
            start += size
        return moved


def mark(path: Path, round_number: int) -> None:
    """Note that a site has all it needs to train a round."""
    with path.open("a") as file:
        file.write(f"{round_number} {time.time():.6f}\n")
