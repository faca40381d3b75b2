"""Whether an update repeats what everybody could read: the last step of the model, or another's update just before.

The cosine is taken on the update's own support, so neither sparsification nor a little added noise hides a copy. All
inputs are decoded updates and models, which have the same bits at every site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from covey_exchange.codec import Sparse, Update
from covey_exchange.manifest import Array
from numpy.typing import NDArray

from covey_validator.incentives.geometry import COMPILED_FROM_ELEMENTS, inner_products
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
                found, kept = part.indices + offset, part.values
                size = int(np.prod(part.shape, dtype=np.int64))
            else:
                kept = part.reshape(-1)
                found, size = np.arange(offset, offset + kept.size, dtype=np.int64), kept.size
            there = kept != 0
            if not there.all():
                found, kept = found[there], kept[there]
            indices.append(found)
            values.append(kept)
            offset += size
        joined = np.concatenate(values).astype(np.float32, copy=False)
        return cls(_everywhere(offset) if joined.size == offset else np.concatenate(indices), joined)

    def at(self, indices: NDArray[np.int64]) -> Array:
        """Values at some places, zero where there is none; not to be changed."""
        if indices is self.indices:
            return self.values
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
    (ours,), (product, theirs) = inner_products([update.values, public])
    limit = rule.copy_ppm / PPM
    return product > 0 and product * product > limit * limit * ours * theirs


@lru_cache(maxsize=1)
def _everywhere(size: int) -> NDArray[np.int64]:
    """The indices of updates that leave no element out: 8 bytes an element, which all of them share."""
    return np.arange(size, dtype=np.int64)
