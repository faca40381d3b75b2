"""Whether an update repeats what everybody could read: the last step of the model, or another's update just before.

The cosine is taken on the update's own support, so neither sparsification nor a little added noise hides a copy. All
inputs are decoded updates and models, which have the same bits at every site.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod

import numpy as np
from covey_exchange.codec import Sparse, Update
from covey_exchange.manifest import Array
from numpy.typing import NDArray

from covey_validator.incentives.geometry import COMPILED_FROM_ELEMENTS, inner_product
from covey_validator.incentives.terms import PPM, Rule


@dataclass(frozen=True)
class Vector:
    """Values, and what is asked of them once for every update that they are compared with."""

    elements: Array

    @cached_property
    def support(self) -> int:
        """How many are not zero."""
        return int(np.count_nonzero(self.elements != 0))  # of booleans it is six times faster than of float32

    @cached_property
    def square(self) -> float:
        """Inner product with itself."""
        return inner_product(self.elements, self.elements)


@dataclass(frozen=True)
class Flat:
    """An update as one vector, tensors in ascending order of name.

    Attributes:
        indices: int64, strictly ascending, of the values that are not zero; None if `values` has all elements, as of an
            update of which most is dense: nine such are kept, and indices are twice as large.
        values: float32.
        size: elements in all.
    """

    indices: NDArray[np.int64] | None
    values: Array
    size: int

    @classmethod
    def of(cls, update: Update) -> Flat:
        """Join all tensors."""
        parts = [update[name] for name in sorted(update, key=lambda name: name.encode())]
        sizes = [prod(part.shape) for part in parts]
        dense = sum(size for part, size in zip(parts, sizes, strict=True) if not isinstance(part, Sparse))
        if 2 * dense > sum(sizes):
            whole = np.concatenate([_whole(part) for part in parts]).astype(np.float32, copy=False)
            return cls(None, whole, sum(sizes))
        indices, values, offset = [], [], 0
        for part, size in zip(parts, sizes, strict=True):
            if isinstance(part, Sparse):
                found, kept = part.indices, part.values
            else:
                found, kept = np.arange(size, dtype=np.int64), part.reshape(-1)
            if np.count_nonzero(kept) < kept.size:
                there = kept != 0
                found, kept = found[there], kept[there]
            indices.append(found + offset)
            values.append(kept)
            offset += size
        return cls(np.concatenate(indices), np.concatenate(values).astype(np.float32, copy=False), sum(sizes))

    @cached_property
    def support(self) -> int:
        """How many elements are not zero."""
        return self.vector.support if self.indices is None else self.indices.size

    @cached_property
    def vector(self) -> Vector:
        """The values."""
        return Vector(self.values)

    @cached_property
    def marks(self) -> NDArray[np.uint64]:
        """A bit for each element, set where there is a value; of a large update that has indices."""
        from covey_validator.incentives import compiled  # a second: only who needs it pays

        assert self.indices is not None
        marks = np.zeros(self.size // 64 + 1, dtype=np.uint64)
        compiled.mark(self.indices, marks)
        return marks

    @property
    def is_large_and_sparse(self) -> bool:
        """Whether bits are much quicker to compare than values."""
        return self.indices is not None and self.indices.size >= COMPILED_FROM_ELEMENTS

    def on(self, other: Flat) -> Vector:
        """One value for each of the other's values, zero where it or we have none; not to be changed."""
        if other.indices is not None:
            return Vector(self.values[other.indices] if self.indices is None else self.at(other.indices))
        if self.indices is None:
            found = self.vector
        else:
            found = Vector(np.zeros_like(other.values))
            found.elements[self.indices] = self.values
        if other.support == other.values.size:
            return found
        return Vector(np.where(other.values != 0, found.elements, np.float32(0)))

    def at(self, indices: NDArray[np.int64]) -> Array:
        """Values at some places, zero where there is none; of an update that has indices."""
        assert self.indices is not None
        found = np.zeros(indices.size, dtype=np.float32)
        if not self.indices.size:
            return found
        if self.indices.size >= COMPILED_FROM_ELEMENTS:
            from covey_validator.incentives import compiled  # a second: only who needs it pays

            compiled.at(self.indices, self.values, indices, found)
            return found
        places = np.minimum(np.searchsorted(self.indices, indices), self.indices.size - 1)
        return np.where(self.indices[places] == indices, self.values[places], np.float32(0))


def _whole(part: Sparse | Array) -> Array:
    if not isinstance(part, Sparse):
        return part.reshape(-1)
    found = np.zeros(prod(part.shape), dtype=np.float32)
    found[part.indices] = part.values
    return found


@dataclass(frozen=True)
class Past:
    """What the sites made of an earlier round: site -> its part (`RoundMerge.parts`).

    Attributes:
        parts: clipped and weighed, so that they add up to the step.
    """

    parts: Mapping[str, Flat]

    def others(self, site: str, update: Flat) -> Iterator[Vector]:
        """Where the site's update is: every other's part, and all of them together, the step without the site's.

        Nothing if all of them together cover no more than half of it, as is usual: then it repeats none.
        """
        together: Array | None = None
        others = sorted(self.parts.keys() - {site})
        if not self._may_cover_half(others, update):
            return
        for other in others:
            part = self.parts[other].on(update)
            together = part.elements if together is None else together + part.elements
            yield part
        if together is not None and len(others) > 1:
            yield Vector(together)

    def _may_cover_half(self, others: Sequence[str], update: Flat) -> bool:
        parts = [self.parts[other] for other in others]
        if not parts or not all(flat.is_large_and_sparse for flat in (update, *parts)):
            return bool(parts)
        covered = reduce(np.bitwise_or, (part.marks for part in parts)) & update.marks
        return 2 * int(np.bitwise_count(covered).sum(dtype=np.int64)) > update.support


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
        if any(_repeats(rule, update, public) for each in past for public in each.others(site, update))
    )


def _repeats(rule: Rule, update: Flat, public: Vector) -> bool:
    """Whether the cosine on the update's support exceeds the limit, and more than half of the support is covered."""
    if 2 * public.support <= update.support:
        return False
    product, limit = inner_product(update.values, public.elements), rule.copy_ppm / PPM
    return product > 0 and product * product > limit * limit * update.vector.square * public.square
