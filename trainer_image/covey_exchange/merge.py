"""The merge: from certified updates to the next model, the same bits at every site.

theta' = theta - outer_learning_rate * mean(clip(update)). Every operation is elementwise IEEE arithmetic in a fixed
order, or an exactly rounded sum (`math.fsum`), so that neither threads nor vector width nor machine can change a bit.
Clipping to the median norm bounds what one site can do (one-covenant/templar does the same); the terms of a task may
do without.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property

import numpy as np

from covey_exchange import step
from covey_exchange.codec import CodecSpec, Sparse, Update, codec_for
from covey_exchange.manifest import Array, Manifest
from covey_exchange.norm import norm as norm_of
from covey_exchange.step import Parts, Stepped


class Clip(StrEnum):
    """How the norm of a single update is limited."""

    MEDIAN_NORM = "MedianNorm"
    NONE = "None"


class RoundMerge:
    """The updates of one round, decoded and clipped, in the certificate's order.

    Attributes:
        norms: site -> L2 norm of its update before clipping.
        keep_fractions: site -> factor that its update was multiplied with, 0 < factor <= 1; 1 for all without clipping.
    """

    def __init__(
        self,
        base: Mapping[str, Array],
        updates: Sequence[tuple[str, Update]],
        outer_learning_rate: float,
        clip: Clip,
        medians: Mapping[str, int] | None = None,
    ) -> None:
        """Clip every update as the task's terms say.

        Args:
            base: the model at the start of the round, float32.
            updates: (site, update) in the certificate's order.
            outer_learning_rate: step along the mean; rounded to float32.
            clip: to the median of the norms, or not at all.
            medians: site -> how many medians its norm may have; 1 for those that are not named.
        """
        self._base = base
        self._rate = np.float32(outer_learning_rate)
        self.norms = {site: norm(update) for site, update in updates}
        limit = statistics.median(self.norms.values()) if self.norms and clip is Clip.MEDIAN_NORM else math.inf
        limits = {site: limit * (medians or {}).get(site, 1) for site in self.norms}
        self.keep_fractions = {site: limits[site] / n if n > limits[site] else 1.0 for site, n in self.norms.items()}
        self._updates = [(site, _scaled(update, self.keep_fractions[site])) for site, update in updates]
        self._count = np.float32(len(self._updates))
        self._stepper = step.for_model(sum(value.size for value in base.values()))

    @classmethod
    def of_payloads(
        cls,
        base: Mapping[str, Array],
        payloads: Sequence[tuple[str, bytes]],
        spec: CodecSpec,
        outer_learning_rate: float,
        clip: Clip,
        medians: Mapping[str, int] | None = None,
    ) -> RoundMerge:
        """Decode (site, payload) pairs in the certificate's order; `spec` is that of the round (`CodecSpec.at_round`).

        Raises:
            DecodeError: a payload is no canonical update; names the site.
        """
        codec = codec_for(spec, Manifest.from_arrays(base))
        updates = [(site, codec.decode(payload, site)) for site, payload in payloads]
        return cls(base, updates, outer_learning_rate, clip, medians)

    @property
    def sites(self) -> list[str]:
        """Sites in the certificate's order."""
        return [site for site, _ in self._updates]

    def candidate(self) -> dict[str, Array]:
        """The model after this round if it is accepted."""
        return {
            name: part.tensor.reshape(self._base[name].shape) if isinstance(part, Stepped) else part
            for name, part in self._stepped.items()
        }

    def changes(self) -> Update:
        """Where the candidate may differ from the base, and its bits there: `patch.apply` makes the one of the other.

        Of tensors of which all sites sent some elements, these; whole ones of others.
        """
        return {
            name: Sparse(part.positions, part.values, self._base[name].shape) if isinstance(part, Stepped) else part
            for name, part in self._stepped.items()
        }

    def without(self, left_out: str) -> dict[str, Array]:
        """The candidate without what this site contributed to it; the base if there are no other sites.

        The others' updates are clipped and weigh as in the candidate: divided by the number of all updates. So an
        update of zeros makes no difference, and what each made of the step adds up to the step.

        Raises:
            KeyError: the site has no update in this round.
        """
        if left_out not in self.norms:
            raise KeyError(f"{left_out} has no update in this round")
        others = [update for site, update in self._updates if site != left_out]
        found: dict[str, Array] = {}
        for name, value in self._base.items():
            sparse = _sparse([update[name] for update in others])
            if sparse is None:
                found[name] = self._dense(value, [update[name] for update in others])
            else:
                found[name] = self._step(value, Parts.of(sparse)).tensor.reshape(value.shape)
        return found

    def parts(self) -> dict[str, Update]:
        """Site -> its part of the step from base to candidate: clipped, weighed, times the learning rate.

        They add up to the step but for rounding, and are computed in float32, so they are the same at every site.
        """
        weight = self._rate / np.float32(len(self._updates)) if self._updates else np.float32(0)
        return {site: _times(update, weight) for site, update in self._updates}

    def difference_without(self, left_out: str) -> Update:
        """Where `without` this site differs from the candidate, and its bits there: `patch.apply` makes the one of the
        other. Of tensors of which the site sent some elements, these; whole ones of others.

        Raises:
            KeyError: the site has no update in this round.
        """
        if left_out not in self.norms:
            raise KeyError(f"{left_out} has no update in this round")
        number = self.sites.index(left_out)
        found: dict[str, Sparse | Array] = {}
        for name, value in self._base.items():
            parts, stepped = self._parts[name], self._stepped[name]
            if parts is not None and isinstance(stepped, Stepped):
                own = parts.of_one(number)
                found[name] = Sparse(parts.indices[own], stepped.without[own], value.shape)
            else:
                found[name] = self._dense(value, [update[name] for site, update in self._updates if site != left_out])
        return found

    @cached_property
    def _parts(self) -> dict[str, Parts | None]:
        """All sites' elements of each tensor; None if one sent it whole."""
        found: dict[str, Parts | None] = {}
        for name in self._base:
            sparse = _sparse([update[name] for _, update in self._updates])
            found[name] = None if sparse is None else Parts.of(sparse)
        return found

    @cached_property
    def _stepped(self) -> dict[str, Stepped | Array]:
        """Each tensor of the candidate; only as it is, if a site sent it whole."""
        found: dict[str, Stepped | Array] = {}
        for name, value in self._base.items():
            parts = self._parts[name]
            if parts is None:
                found[name] = self._dense(value, [update[name] for _, update in self._updates])
            else:
                found[name] = self._step(value, parts)
        return found

    def _step(self, value: Array, parts: Parts) -> Stepped:
        flat = np.ascontiguousarray(value).reshape(-1)
        return self._stepper.step(flat, parts, self._count, self._rate)

    def _dense(self, value: Array, parts: Sequence[Sparse | Array]) -> Array:
        total = np.zeros(value.size, dtype=np.float32)
        for part in parts:
            if isinstance(part, Sparse):
                total[part.indices] += part.values
            else:
                total += part.reshape(-1)
        total /= self._count
        total *= self._rate
        return np.asarray(value - total.reshape(value.shape))


def norm(update: Update) -> float:
    """L2 norm of an update; what is not kept is zero."""
    return norm_of(part.values if isinstance(part, Sparse) else part for part in update.values())


def _sparse(parts: Sequence[Sparse | Array]) -> list[Sparse] | None:
    """Parts of one tensor if all are sparse; a codec sends a tensor the same way from every site."""
    found = [part for part in parts if isinstance(part, Sparse)]
    return found if len(found) == len(parts) else None


def _scaled(update: Update, factor: float) -> Update:
    return update if factor == 1.0 else _times(update, np.float32(factor))


def _times(update: Update, f: np.float32) -> Update:
    return {
        name: Sparse(part.indices, part.values * f, part.shape) if isinstance(part, Sparse) else np.asarray(part * f)
        for name, part in update.items()
    }
