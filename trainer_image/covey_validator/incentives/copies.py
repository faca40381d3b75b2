"""Whether an update repeats what everybody could read: the last step of the model, or an update of the rounds before.

The cosine is taken on the update's own support, so neither sparsification nor a little added noise hides a copy. All
inputs are decoded updates and models, which have the same bits at every site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from covey_exchange.codec import Sparse, Update
from covey_exchange.manifest import Array
from numpy.typing import NDArray

from covey_validator.incentives.geometry import ordered_sum
from covey_validator.incentives.terms import PPM, Rule


@dataclass(frozen=True)
class Flat:
    """An update as one sparse vector, tensors in ascending order of name.

    Attributes:
        indices: int64, strictly ascending; only of values that are not zero.
        values: float32, one for each index.
    """

    indices: NDArray[np.int64]
    values: Array

    @classmethod
    def of(cls, update: Update) -> Flat:
        """Join all tensors, dense ones as well."""
        indices, values, offset = [], [], 0
        for name in sorted(update, key=lambda name: name.encode()):
            part = update[name]
            if isinstance(part, Sparse):
                found, kept = part.indices, part.values
                size = int(np.prod(part.shape, dtype=np.int64))
            else:
                kept = part.reshape(-1)
                found, size = np.arange(kept.size, dtype=np.int64), kept.size
            there = kept != 0
            indices.append(found[there] + offset)
            values.append(kept[there])
            offset += size
        return cls(np.concatenate(indices), np.concatenate(values).astype(np.float32, copy=False))

    @classmethod
    def step(cls, before: Mapping[str, Array], after: Mapping[str, Array]) -> Flat:
        """The model's last step in the direction of updates (a model moves against them)."""
        return cls.of({name: np.asarray(before[name] - after[name]) for name in before})


def repeats(rule: Rule, update: Flat, public: Flat) -> bool:
    """Whether the cosine on the update's support exceeds the limit, and more than half of the support is covered."""
    if not update.indices.size or not public.indices.size:
        return False
    places = np.searchsorted(public.indices, update.indices)
    inside = np.minimum(places, public.indices.size - 1)
    common = public.indices[inside] == update.indices
    if 2 * int(common.sum()) <= update.indices.size:
        return False
    ours, theirs = update.values.astype(np.float64), public.values[inside[common]].astype(np.float64)
    product = ordered_sum(ours[common] * theirs)
    limit = rule.copy_ppm / PPM
    return product > 0 and product * product > limit * limit * ordered_sum(ours * ours) * ordered_sum(theirs * theirs)


def copied(rule: Rule, updates: Mapping[str, Flat], public: Iterable[Flat]) -> frozenset[str]:
    """Sites whose update of this round repeats something public.

    Args:
        rule: parameters.
        updates: site -> its update of this round.
        public: the model's last step and every update of the last two rounds, the site's own among them.
    """
    seen = list(public)
    return frozenset(site for site, update in updates.items() if any(repeats(rule, update, each) for each in seen))
