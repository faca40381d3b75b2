"""The compiled loops of the incentive rule give the same bits as NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from covey_validator.incentives import copies, geometry
from covey_validator.incentives.copies import Flat
from covey_validator.incentives.terms import Rule
from numpy.typing import NDArray

A, B, C = (f"0x{number:040x}" for number in (1, 2, 3))


@pytest.mark.parametrize("size", [0, 1, 511, 512, 10_000])
def test_compiled_loops_give_the_same_bits(monkeypatch: pytest.MonkeyPatch, size: int):
    rng = np.random.default_rng(size)
    first, second = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    kept = [np.sort(rng.permutation(size)[: size * share // 10]) for share in (3, 7)]
    flats = [Flat(indices, values[indices], size) for indices, values in zip(kept, (first, second), strict=True)]

    def look() -> tuple[list[list[float]], bytes, bytes]:
        there, back = flats[0].at(flats[1].indices), flats[1].at(flats[0].indices)
        arrays = [first, second, first - second]
        products = geometry.inner_products(arrays)
        assert products == [[geometry.inner_product(a, b) for b in arrays[: i + 1]] for i, a in enumerate(arrays)]
        return products, there.tobytes(), back.tobytes()

    found = []
    for limit in (size + 1, 0):
        for module in (geometry, copies):
            monkeypatch.setattr(module, "COMPILED_FROM_ELEMENTS", limit)
        found.append(look())
    assert found[0] == found[1]


@pytest.mark.parametrize("shared", [0, 4000, 5000, 5001, 6000, 10_000])
def test_whether_others_cover_half_of_an_update_is_seen_by_its_bits_as_by_its_values(
    monkeypatch: pytest.MonkeyPatch, shared: int
):
    """Two others cover `shared` of 10,000 elements."""
    rng = np.random.default_rng(shared)
    places = rng.permutation(64 * 1000)
    values = rng.normal(size=10_000).astype(np.float32)
    own, elsewhere = np.sort(places[:10_000]), places[10_000:]

    def flat(indices: NDArray[np.int64]) -> Flat:
        where = np.searchsorted(own, indices).clip(max=own.size - 1)
        return Flat(indices, np.where(own[where] == indices, values[where], np.float32(1)), 64 * 1000)

    covered = rng.permutation(own)[:shared]
    half = shared // 2
    parts = {
        A: flat(np.sort(np.concatenate([covered[:half], elsewhere[:3000]]))),
        B: flat(np.sort(np.concatenate([covered[half:], elsewhere[:100]]))),
        C: flat(own),
    }
    found = []
    for limit in (10**9, 0):
        monkeypatch.setattr(copies, "COMPILED_FROM_ELEMENTS", limit)
        update = Flat(own, values, 64 * 1000)
        found.append(copies.copied(Rule(), {C: update}, [copies.Past(parts)]))
        assert (len(list(copies.Past(parts).others(C, update))) == 3) == (limit > 0 or shared > 5000)
    assert found[0] == found[1] == ({C} if shared == 10_000 else frozenset())
