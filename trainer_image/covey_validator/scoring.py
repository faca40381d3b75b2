"""Scores of a round: paired holdout losses as integers, and stake-weighted quantiles of them.

All arithmetic is on Python integers, so that every site gets the same verdict from the same reveals.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from eth_utils import keccak, to_canonical_address, to_checksum_address

NANO = 10**9
LOSS_LIMIT = 2**62  # stands for a loss that is infinite or not a number: worse than any other

# Judges with this share of the stake must agree that an update did harm, or helped by no more than so much: with one
# half, each of two judges could deny a third member its pay.

ABSTENTION = b""  # revealed by a site whose holdout is too small to judge


class ScoresError(ValueError):
    """Bytes that are no scores of this round."""


def nano_loss(loss_sum: float, examples: int) -> int:
    """Mean loss of an example in billionths.

    Raises:
        ValueError: no examples.
    """
    if examples < 1:
        raise ValueError("a loss needs at least one example")
    mean = loss_sum / examples
    if not math.isfinite(mean):
        return LOSS_LIMIT
    return round(max(-LOSS_LIMIT, min(LOSS_LIMIT, mean * NANO)))


@dataclass(frozen=True)
class Scores:
    """One validator's losses on its own holdout, in nano-loss.

    Attributes:
        base: of the model before the round.
        candidate: of the merged model.
        without: site -> of the model merged without this site's update.
        height: block up to which the validator had read the chain; 0 where nothing there bears on the rule.
    """

    base: int
    candidate: int
    without: Mapping[str, int]
    height: int = 0

    def encode(self) -> bytes:
        """Canonical bytes: base, candidate, height, then address and loss ascending by address; int64 big-endian."""
        entries = sorted(to_canonical_address(site) + struct.pack(">q", loss) for site, loss in self.without.items())
        return struct.pack(">qqq", self.base, self.candidate, self.height) + b"".join(entries)

    @classmethod
    def decode(cls, data: bytes, sites: Iterable[str]) -> Scores:
        """Read scores of exactly these sites.

        Raises:
            ScoresError: other length, other sites, a loss beyond the limit, or a height below 0.
        """
        expected = sorted(to_canonical_address(site) for site in sites)
        if len(data) != 24 + 28 * len(expected):
            raise ScoresError(f"scores of {len(expected)} sites have {24 + 28 * len(expected)} bytes, not {len(data)}")
        base, candidate, height = struct.unpack(">qqq", data[:24])
        entries = [data[start : start + 28] for start in range(24, len(data), 28)]
        if [entry[:20] for entry in entries] != expected:
            raise ScoresError("scores must name the sites of the round in ascending order")
        without: dict[str, int] = {}
        for entry in entries:
            (without[to_checksum_address(entry[:20])],) = struct.unpack(">q", entry[20:])
        if any(abs(loss) > LOSS_LIMIT for loss in (base, candidate, *without.values())):
            raise ScoresError("a loss exceeds the limit of 2^62 nano")
        if height < 0:
            raise ScoresError("a height is below 0")
        return cls(base, candidate, without, height)


def commitment(task_id: bytes, round_number: int, site: str, salt: bytes, scores_hash: bytes) -> bytes:
    """What binds a site to its scores before it sees others: keccak256 over fixed-length fields."""
    return keccak(task_id + round_number.to_bytes(8, "big") + to_canonical_address(site) + salt + scores_hash)


def weighted_quantile(values: Iterable[tuple[int, int]], share: Fraction) -> int | None:
    """The smallest value of (value, weight) with at least `share` of the weight at or below; None without weight."""
    ordered = sorted((value, weight) for value, weight in values if weight > 0)
    total = sum(weight for _, weight in ordered)
    passed = 0
    for value, weight in ordered:
        passed += weight
        if passed * share.denominator >= total * share.numerator:
            return value
    return None


def weighted_median(values: Iterable[tuple[int, int]]) -> int | None:
    """The lower weighted median of (value, weight): of two halves that disagree the smaller value decides."""
    return weighted_quantile(values, Fraction(1, 2))


def height_of(scores: Mapping[str, Scores], stakes: Mapping[str, int]) -> int:
    """The highest block that more than two thirds of these judges' stake have read the chain up to; 0 without scores.

    No liars with less than two thirds of it move it beyond what somebody honest has seen.
    """
    return weighted_quantile(((s.height, stakes.get(site, 0)) for site, s in scores.items()), Fraction(1, 3)) or 0


def is_improvement(scores: Mapping[str, Scores], stakes: Mapping[str, int], margin: Fraction) -> bool:
    """Whether the median gain is no worse than `margin` of the median base loss; False when nobody scored."""
    gain = weighted_median((s.base - s.candidate, stakes[site]) for site, s in scores.items())
    base = weighted_median((s.base, stakes[site]) for site, s in scores.items())
    if gain is None or base is None:
        return False
    return gain * margin.denominator >= -margin.numerator * abs(base)


def median_loss(scores: Mapping[str, Scores], stakes: Mapping[str, int], accepted: bool) -> int | None:
    """The loss, in nano, of the model that the round leaves behind, for people; None when nobody scored."""
    return weighted_median((s.candidate if accepted else s.base, stakes[site]) for site, s in scores.items())
