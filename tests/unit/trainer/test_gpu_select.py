"""The pass over memory on a GPU gives the same bits as NumPy, whatever the values; skipped where there is no GPU."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from covey_exchange.codec import CodecSpec
from covey_exchange.codec.kernels import NUMPY
from covey_exchange.manifest import Array
from covey_trainer.kernels import GPU_CHUNKS, Torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and none is here")

SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-40, 1.1754944e-38, 1e38, -1e38, 0.5, -0.5]
LARGEST = int(np.iinfo(np.int64).max)
seeds = st.integers(0, 2**32 - 1)
chunks = st.sampled_from(sorted(GPU_CHUNKS))


def flat(seed: int, n: int) -> Array:
    """Ties, zeros of both signs and subnormals; or scales from 1e-20 to 1e20; or nearly all alike."""
    rng = np.random.default_rng(seed)
    kind = seed % 3
    if kind == 0:
        return rng.choice(np.array(SPECIAL, dtype=np.float32), size=n)
    if kind == 1:
        return (rng.normal(size=n) * rng.lognormal(sigma=10, size=n)).astype(np.float32)
    values = np.full(n, np.float32(rng.normal()))
    values[rng.integers(0, n, size=max(1, n // 100))] = rng.normal(size=max(1, n // 100)).astype(np.float32)
    return values


@settings(max_examples=200, deadline=None)
@given(seeds, chunks, st.integers(1, 5), st.integers(1, 1024))
def test_each_chunks_largest(seed: int, chunk: int, rows: int, denominator: int) -> None:
    values = flat(seed, rows * chunk + seed % 100)
    grid = CodecSpec(density=Fraction(1, denominator), chunk=chunk).grid(values.size)
    assert np.array_equal(Torch("cuda").select(values, grid), NUMPY.select(values, grid))


@settings(max_examples=200, deadline=None)
@given(seeds, seeds, chunks, st.integers(1, 5), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_error_feedback_and_selection_in_one_pass(a: int, b: int, chunk: int, rows: int, decay: float) -> None:
    from covey_trainer.gpu_select import absorb_and_select

    kept, added = flat(a, rows * chunk), flat(b, rows * chunk)
    expected = np.empty_like(kept)
    NUMPY.accumulate(kept, added, np.float32(decay), expected)
    out = torch.from_numpy(kept.copy()).cuda()
    factor, count = float(np.float32(decay)), max(1, chunk // 64)
    positions, bad = absorb_and_select(out, torch.from_numpy(added).cuda(), factor, chunk, count, out)
    assert out.cpu().numpy().tobytes() == expected.tobytes()
    assert int(bad) == LARGEST
    grid = CodecSpec(chunk=chunk).grid(kept.size)
    assert np.array_equal(positions.cpu().numpy(), NUMPY.select(expected, grid))


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 3 * 1024 - 1), min_size=1, max_size=5), st.sampled_from([np.inf, -np.inf, np.nan]))
def test_the_first_number_that_is_not_finite_is_found(where: set[int], what: float) -> None:
    from covey_trainer.gpu_select import absorb_and_select

    added = np.ones(3 * 1024, dtype=np.float32)
    added[sorted(where)] = what
    kept = torch.zeros(added.size, device="cuda")
    positions, bad = absorb_and_select(kept, torch.from_numpy(added).cuda(), 1.0, 1024, 16, torch.empty_like(kept))
    assert int(bad) == min(where)
    rows = positions.cpu().numpy().reshape(3, 16) // 1024
    assert np.array_equal(rows, np.arange(3)[:, None].repeat(16, axis=1))  # each chunk wrote only its own
