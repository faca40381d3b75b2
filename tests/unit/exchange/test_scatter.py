"""The compiled sum at some elements gives the bits of NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from covey_exchange import scatter


@pytest.mark.parametrize("size", [1, 700, 20_000])
@pytest.mark.parametrize("what", [scatter.add, scatter.subtract])
def test_compiled_and_plain_sums_have_the_same_bits(monkeypatch: pytest.MonkeyPatch, size: int, what):
    rng = np.random.default_rng(size)
    target, values = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    target[::3], values[::2] = -0.0, 0.0
    indices = np.sort(rng.permutation(size)[: size // 2 + 1])
    expected = target.copy()
    expected[indices] = (
        expected[indices] + values[indices] if what is scatter.add else expected[indices] - values[indices]
    )
    for limit in (size + 1, 0):
        monkeypatch.setattr(scatter, "COMPILED_FROM_ELEMENTS", limit)
        found = target.copy()
        what(found, indices, values[indices])
        assert found.tobytes() == expected.tobytes()
