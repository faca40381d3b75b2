"""Real records dealt out to members: handwritten digits, one member left-handed; and measurements of tumours."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Bag = tuple[Floats, Labels]

_HOLDOUT = 0.3
_WDBC = Path(__file__).parents[3] / "examples" / "wdbc"
DIGITS = 10  # classes
SIDE = 8  # pixels of a digit's edge
CORNERS = [0, SIDE - 1, SIDE * (SIDE - 1), SIDE * SIDE - 1]


@dataclass(frozen=True)
class Deal:
    """Who holds what.

    Attributes:
        train: one bag a member: features [n, f], labels [n].
        holdout: the same; what is committed to, and what a member judges with.
        audit: cohorts of the Planner's audit set.
    """

    train: list[Bag]
    holdout: list[Bag]
    audit: list[Bag]


def digits(roles: Sequence[str], seed: int) -> Deal:
    """1797 images of 8 x 8 pixels in equal parts; a left-handed member's are mirrored. One part is the Planner's."""
    images, labels = _digits()
    rng = np.random.default_rng([1, seed])
    parts = np.array_split(rng.permutation(len(labels)), len(roles) + 1)
    size = min(map(len, parts))
    bags = [(images[part[:size]], labels[part[:size]]) for part in parts]
    planner, bags = bags[-1], bags[:-1]
    scramble = rng.permutation(SIDE * SIDE)
    for i, role in enumerate(roles):
        x, y = bags[i]
        if role in ("left", "stolen"):
            bags[i] = (mirrored(x), y)
        if role == "invent":  # learnable, and nobody's handwriting
            bags[i] = (np.ascontiguousarray(x[:, scramble]), y)
    half = size // 2
    audit = [(planner[0][:half], planner[1][:half]), (mirrored(planner[0][half:]), planner[1][half:])]
    return _split(bags, audit)


def tumours(roles: Sequence[str], seed: int, alpha: float = 1.0) -> Deal:
    """569 tumours, 30 measurements; how many of a member's are malignant is Dirichlet-distributed, sizes are equal."""
    x, y = _wdbc()
    rng = np.random.default_rng([2, seed])
    size = len(y) // (len(roles) + 1)
    pool = rng.permutation(len(y))
    bags = []
    for _ in roles:
        mix = rng.dirichlet([alpha, alpha])
        odds = mix[y[pool]] + 1e-4
        taken = rng.choice(len(pool), size, replace=False, p=odds / odds.sum())
        bags.append((x[pool[taken]], y[pool[taken]]))
        pool = np.delete(pool, taken)
    return _split(bags, [(x[pool], y[pool])])


def hospitals(roles: Sequence[str], seed: int) -> Deal:
    """The example's own deal: kinds of cases differ from hospital to hospital, and so do sizes."""
    found = load_breast_cancer()
    x, y = _wdbc()
    maker = _example("make_data")
    kinds = found.data[:, [list(found.feature_names).index(kind) for kind in maker.KINDS]]
    test, parts = maker.split(kinds, y, len(roles), seed)
    rng = np.random.default_rng([3, seed])
    bags = [(x[part], y[part]) for part in map(rng.permutation, parts)]
    return _split(bags, [(x[test], y[test])])


def mirrored(x: Floats) -> Floats:
    """Images [n, 64], left and right exchanged."""
    return np.ascontiguousarray(x.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(x), -1))


def _split(bags: Sequence[Bag], audit: list[Bag]) -> Deal:
    train, holdout = [], []
    for x, y in bags:
        kept = round(len(y) * _HOLDOUT)
        holdout.append((x[:kept], y[:kept]))
        train.append((x[kept:], y[kept:]))
    return Deal(train, holdout, audit)


@cache
def _digits() -> Bag:
    found = load_digits()
    return (found.images / 16).astype(np.float32).reshape(len(found.target), -1), found.target.astype(np.int64)


@cache
def _wdbc() -> Bag:
    found = load_breast_cancer()
    return _example("wdbc.records").scale(found.data), (found.target == 0).astype(np.int64)


def _example(module: str) -> ModuleType:
    """A module of the example, which is no part of the installation."""
    if str(_WDBC) not in sys.path:
        sys.path.insert(0, str(_WDBC))
    return importlib.import_module(module)
