"""How much of the model's final direction came from whom: influence, and the part that nobody else supplied.

A_i is the sum of what site i made of every accepted step, D = sum of A_i. Influence I_i = <A_i, D> / |D|^2 sums to one.
The unique part U_i = |A_i - its projection on the others|^2 / |D|^2 = det(G) / (det(G without i) |D|^2), G the Gram
matrix of the A_i. Dot products are float64 sums in a fixed order of exact float32 products; from the Gram matrix on all
is integers. So every site gets the same numbers, and anyone can recompute them from the archived updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from covey_exchange import scatter
from covey_exchange.codec import Sparse, Update
from covey_exchange.manifest import Array
from numpy.typing import NDArray

from covey_validator.incentives.terms import PPB, PPM
from covey_validator.scoring import weighted_quantile

COMPILED_FROM_ELEMENTS = 2**18  # of one array
_LANES = 512  # those of all pairs of a few sites fit in the first-level cache
_GRAM_BITS = 60  # the largest entry becomes an integer of so many bits
_RIDGE = 10**9  # one part of so many is added to the diagonal: two sites with the same movement have no unique part


def ordered_sum(values: NDArray[np.float64]) -> float:
    """A sum that no vector width or thread count changes: lane by lane in the order of elements, then `fsum`."""
    lanes = np.zeros(_LANES, dtype=np.float64)
    for start in range(0, values.size, _LANES):
        row = values[start : start + _LANES]
        lanes[: row.size] += row
    return math.fsum(lanes)


def inner_product(first: Array, second: Array) -> float:
    """The `ordered_sum` of the exact products of two flat float32 arrays."""
    if first.size < COMPILED_FROM_ELEMENTS:
        return ordered_sum(first.astype(np.float64) * second.astype(np.float64))
    from covey_validator.incentives import compiled  # a second: only who needs it pays

    lanes = np.zeros(_LANES, dtype=np.float64)
    compiled.add_product(first, second, lanes)
    return math.fsum(lanes)


def inner_products(arrays: Sequence[Array]) -> list[list[float]]:
    """The `inner_product` of each flat float32 array with itself and those before it."""
    if not arrays or arrays[0].size < COMPILED_FROM_ELEMENTS:
        wide = [array.astype(np.float64) for array in arrays]
        return [[ordered_sum(first * second) for second in wide[: i + 1]] for i, first in enumerate(wide)]
    from covey_validator.incentives import compiled  # a second: only who needs it pays

    lanes = np.zeros((len(arrays), len(arrays), _LANES), dtype=np.float64)
    compiled.add_products(tuple(arrays), lanes)
    return [[math.fsum(pair) for pair in lanes[i, : i + 1]] for i in range(len(arrays))]


class Movement:
    """What each site has made of the model since the task began; float32, one model's size for each site."""

    def __init__(self) -> None:
        self.of: dict[str, dict[str, Array]] = {}

    def add(self, parts: Mapping[str, Update]) -> None:
        """Add an accepted round: site -> what it made of the step (`RoundMerge.parts`)."""
        for site, part in parts.items():
            total = self.of.get(site)
            if total is None:
                total = {
                    n: np.zeros(np.shape(p) if not isinstance(p, Sparse) else p.shape, np.float32)
                    for n, p in part.items()
                }
                self.of[site] = total
            for name, moved in part.items():
                if isinstance(moved, Sparse):
                    scatter.add(total[name].reshape(-1), moved.indices, moved.values)
                else:
                    total[name] += moved

    def gram(self) -> Gram:
        """Inner products of all sites' movements."""
        sites = tuple(sorted(self.of))
        names = sorted(next(iter(self.of.values()))) if sites else []
        found = [inner_products([self.of[site][name].reshape(-1) for site in sites]) for name in names]
        entries: list[list[Fraction]] = [[Fraction(0)] * len(sites) for _ in sites]
        for i in range(len(sites)):
            for j in range(i + 1):
                entries[i][j] = entries[j][i] = Fraction(math.fsum(products[i][j] for products in found))
        return Gram.scaled(sites, entries)


@dataclass(frozen=True)
class Gram:
    """Inner products of movements as integers; the scale is common and has no meaning.

    Attributes:
        sites: ascending by address.
        entries: symmetric, one row a site.
    """

    sites: tuple[str, ...]
    entries: tuple[tuple[int, ...], ...]

    @classmethod
    def scaled(cls, sites: Sequence[str], entries: Sequence[Sequence[Fraction]]) -> Gram:
        """Round so that the largest entry has some 60 bits."""
        largest = max((abs(entry) for row in entries for entry in row), default=Fraction(0))
        unit = largest / 2**_GRAM_BITS if largest else Fraction(1)
        return cls(tuple(sites), tuple(tuple(round(entry / unit) for entry in row) for row in entries))

    def of(self, sites: frozenset[str]) -> Gram:
        """The same of some sites alone."""
        kept = [i for i, site in enumerate(self.sites) if site in sites]
        return Gram(tuple(self.sites[i] for i in kept), tuple(tuple(self.entries[i][j] for j in kept) for i in kept))

    def alignment(self, stakes: Mapping[str, int], share: Fraction) -> dict[str, int]:
        """Site -> cosine in ppm of its movement with another's, of which others with `share` of the stake are below.

        Only of sites that have moved, with others that have. Like help, it is negative only if so many agree.
        """
        rows = {site: row for site, row in zip(self.sites, self.entries, strict=True) if site in stakes}
        norms = {site: row[self.sites.index(site)] for site, row in rows.items()}
        there = [site for site in rows if norms[site] > 0]
        found = {}
        for site in there:
            cosines = []
            for other in there:
                if other != site:
                    entry = rows[site][self.sites.index(other)]
                    size = math.isqrt(PPM * PPM * entry * entry // (norms[site] * norms[other]))
                    cosines.append((size if entry > 0 else -size, stakes[other]))
            if cosines:
                found[site] = weighted_quantile(cosines, share) or 0
        return found

    def influence(self) -> dict[str, int]:
        """Site -> its part of the final direction in ppb; negative if it pulled the other way."""
        total = sum(map(sum, self.entries))
        if total <= 0:
            return dict.fromkeys(self.sites, 0)
        return {site: PPB * sum(row) // total for site, row in zip(self.sites, self.entries, strict=True)}

    def unique(self) -> dict[str, int]:
        """Site -> squared length of what only it supplied, in ppb of that of the final direction."""
        total = sum(map(sum, self.entries))
        if total <= 0:
            return dict.fromkeys(self.sites, 0)
        ridge = max(1, sum(self.entries[i][i] for i in range(len(self.sites))) // (len(self.sites) * _RIDGE))
        matrix = [[e + ridge * (i == j) for j, e in enumerate(row)] for i, row in enumerate(self.entries)]
        whole = _determinant(matrix)
        found = {}
        for i, site in enumerate(self.sites):
            rest = _determinant([row[:i] + row[i + 1 :] for k, row in enumerate(matrix) if k != i])
            found[site] = max(0, PPB * whole // (rest * total)) if rest > 0 else 0
        return found


def _determinant(matrix: Sequence[Sequence[int]]) -> int:
    """Of a positive definite integer matrix, exactly (Bareiss 1968); 0 if a leading minor is 0; 1 of nothing."""
    rows = [list(row) for row in matrix]
    before = 1
    for k in range(len(rows) - 1):
        if rows[k][k] == 0:
            return 0
        for i in range(k + 1, len(rows)):
            for j in range(k + 1, len(rows)):
                rows[i][j] = (rows[i][j] * rows[k][k] - rows[i][k] * rows[k][j]) // before
        before = rows[k][k]
    return rows[-1][-1] if rows else 1
