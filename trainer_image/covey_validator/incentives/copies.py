"""Whether an update repeats what everybody could read: the last step of the model, or another's update just before.

The cosine is taken on the update's own support, so neither sparsification nor a little added noise hides a copy. All
inputs are decoded updates and models, which have the same bits at every site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from covey_exchange.codec import Sparse, Update
from covey_exchange.manifest import Array
from numpy.typing import NDArray

from covey_validator.incentives.geometry import COMPILED_FROM_ELEMENTS, ordered_sum
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

    def at(self, indices: NDArray[np.int64]) -> Array:
        """Values at some places, zero where there is none."""
        found = np.zeros(indices.size, dtype=np.float32)
        if not self.indices.size:
            return found
        if self.indices.size >= COMPILED_FROM_ELEMENTS:
            from covey_validator.incentives import compiled  # a second: only who needs it pays

            compiled.at(self.indices, self.values, indices, found)
            return found
        places = np.minimum(np.searchsorted(self.indices, indices), self.indices.size - 1)
        return np.where(self.indices[places] == indices, self.values[places], np.float32(0))


@dataclass(frozen=True)
class Past:
    """What the sites made of an earlier round: site -> its part (`RoundMerge.parts`).

    Attributes:
        parts: clipped and weighed, so that they add up to the step.
    """

    parts: Mapping[str, Flat]

    def others(self, site: str, indices: NDArray[np.int64]) -> Iterator[Array]:
        """On these places: every other site's part, and all of them together, which is the step without the site's."""
        together = np.zeros(indices.size, dtype=np.float32)
        for other in sorted(self.parts.keys() - {site}):
            part = self.parts[other].at(indices)
            together += part
            yield part
        yield together


def copied(rule: Rule, parts: Mapping[str, Flat], past: Sequence[Past]) -> frozenset[str]:
    """Sites whose update of this round repeats something that others made public.

    A site's own earlier updates are no source: after a discarded round an honest site sends nearly the same again.

    Args:
        rule: parameters.
        parts: site -> its update of this round.
        past: the two rounds before, and the last accepted one if it is older.
    """
    return frozenset(
        site
        for site, update in parts.items()
        if any(_repeats(rule, update, public) for each in past for public in each.others(site, update.indices))
    )


def _repeats(rule: Rule, update: Flat, public: Array) -> bool:
    """Whether the cosine on the update's support exceeds the limit, and more than half of the support is covered."""
    if 2 * int(np.count_nonzero(public)) <= update.indices.size:
        return False
    ours, theirs = update.values.astype(np.float64), public.astype(np.float64)
    product = ordered_sum(ours * theirs)
    limit = rule.copy_ppm / PPM
    return product > 0 and product * product > limit * limit * ordered_sum(ours * ours) * ordered_sum(theirs * theirs)
