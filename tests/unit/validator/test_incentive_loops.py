"""The compiled loops of the incentive rule give the same bits as NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from covey_validator.incentives import copies, geometry
from covey_validator.incentives.copies import Flat


@pytest.mark.parametrize("size", [0, 1, 511, 512, 10_000])
def test_compiled_loops_give_the_same_bits(monkeypatch: pytest.MonkeyPatch, size: int):
    rng = np.random.default_rng(size)
    first, second = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    kept = [np.sort(rng.permutation(size)[: size * share // 10]) for share in (3, 7)]
    flats = [Flat(indices, values[indices]) for indices, values in zip(kept, (first, second), strict=True)]

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
