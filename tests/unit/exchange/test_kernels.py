"""All implementations of the kernels give the same bits, whatever the values."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from covey_exchange.codec import (
    CodecSpec,
    Kernels,
    NonFiniteUpdate,
    Residual,
    codec_for,
    decode,
    densify,
    encode,
    kernels,
)
from covey_exchange.codec.kernels import NUMPY, compiled, jit
from covey_exchange.manifest import Array, Manifest, TensorSpec
from covey_trainer.kernels import Torch
from exchange_strategies import manifests, specs, updates
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SITE = "0x00000000000000000000000000000000000000A1"
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-40, 1.1754944e-38, 3.4028235e38, -3.4028235e38, 0.5, -0.5]

# Everything is cut into parts for two threads, however small it is.
compiled_kernels = compiled.Compiled(threads=2)


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and none is here")


@pytest.fixture(params=["compiled", "cpu", pytest.param("cuda", marks=CUDA)])
def other(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernels:
    monkeypatch.setattr(compiled, "PARALLEL_FROM_ELEMENTS", 2)
    monkeypatch.setattr(compiled, "SAMPLE", 16)
    return compiled_kernels if request.param == "compiled" else Torch(request.param)


@st.composite
def flats(draw: st.DrawFn) -> Array:
    """Many ties, zeros of both signs, subnormals, the largest numbers; or a mixture of scales."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 700))
    if draw(st.booleans()):
        pool = np.array(draw(st.lists(st.sampled_from(SPECIAL), min_size=1, max_size=6)), dtype=np.float32)
        return rng.choice(pool, size=n)
    return (rng.normal(size=n) * rng.lognormal(sigma=6, size=n)).astype(np.float32)


grids = st.builds(
    lambda density, chunk, n: CodecSpec(density=density, chunk=chunk).grid(n),
    st.fractions(Fraction(1, 1000), 1),
    st.sampled_from([1, 2, 15, 16, 17, 64, 100, 700, 4096]),
    st.integers(1, 700),
)


@MANY
@given(flats(), st.fractions(Fraction(1, 1000), 1), st.sampled_from([1, 2, 15, 16, 17, 64, 100, 4096]))
def test_each_chunks_largest(other: Kernels, flat: Array, density: Fraction, chunk: int) -> None:
    grid = CodecSpec(density=density, chunk=chunk).grid(flat.size)
    expected = NUMPY.select(flat, grid)
    assert np.array_equal(other.select(flat, grid), expected)
    by_hand = []
    for start in range(0, flat.size, chunk):
        magnitudes = np.abs(flat[start : start + chunk])
        order = np.argsort(-magnitudes, kind="stable")[: grid.kept_full if len(magnitudes) == chunk else grid.kept_tail]
        by_hand += sorted(order + start)
    assert expected.tolist() == by_hand


@MANY
@given(st.lists(flats(), min_size=1, max_size=4), st.fractions(0, 1))
def test_the_largest_of_the_whole_model(other: Kernels, parts: list[Array], share: Fraction) -> None:
    total = sum(part.size for part in parts)
    kept = max(1, int(total * share))
    expected = NUMPY.largest(parts, kept)
    found = other.largest(parts, kept)
    assert [f.tolist() for f in found] == [e.tolist() for e in expected]
    order = np.sort(np.argsort(-np.abs(np.concatenate(parts)), kind="stable")[:kept])
    starts = np.cumsum([0, *(part.size for part in parts[:-1])])
    assert np.array_equal(np.concatenate([e + s for e, s in zip(expected, starts, strict=True)]), order)


@MANY
@given(grids, st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_gaps_and_their_code(other: Kernels, grid: kernels.Grid, seed: int, bits: int) -> None:
    flat = np.random.default_rng(seed).normal(size=grid.boundary + grid.tail).astype(np.float32)
    positions = NUMPY.select(flat, grid)
    gaps = NUMPY.to_gaps(positions, grid)
    assert np.array_equal(other.to_gaps(positions, grid), gaps)
    low, unary = NUMPY.pack(gaps, bits)
    found = other.pack(gaps, bits)
    assert (found[0].tobytes(), found[1].tobytes()) == (low.tobytes(), unary.tobytes())
    for one in (NUMPY, other):
        assert np.array_equal(one.unpack(low, unary, gaps.size, bits), gaps)
        back, left = one.from_gaps(gaps, grid)
        assert np.array_equal(back, positions)
        assert left == -1


@MANY
@given(grids, st.data())
def test_positions_beyond_a_chunk_are_found_in_the_same_one(
    other: Kernels, grid: kernels.Grid, data: st.DataObject
) -> None:
    gaps = np.array(data.draw(st.lists(st.integers(0, 9), min_size=grid.kept, max_size=grid.kept)), dtype=np.int64)
    expected, found = NUMPY.from_gaps(gaps, grid), other.from_gaps(gaps, grid)
    assert np.array_equal(expected[0], found[0])
    assert expected[1] == found[1]


@MANY
@given(flats(), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.booleans())
def test_accumulation(other: Kernels, kept: Array, seed: int, decay: float, spoiled: bool) -> None:
    rng = np.random.default_rng(seed)
    added = rng.normal(size=kept.size).astype(np.float32)
    if spoiled:
        added[rng.integers(kept.size)] = rng.choice([np.nan, np.inf, -np.inf])
    factor = np.float32(decay)
    expected, apart, over_kept, over_added = np.empty_like(kept), np.empty_like(kept), kept.copy(), added.copy()
    bad = NUMPY.accumulate(kept, added, factor, expected)
    assert other.accumulate(kept, added, factor, apart) == bad
    assert other.accumulate(over_kept, added, factor, over_kept) == bad
    assert other.accumulate(kept, over_added, factor, over_added) == bad
    if bad < 0:
        assert apart.tobytes() == over_kept.tobytes() == over_added.tobytes() == expected.tobytes()
    else:
        assert spoiled or np.abs(kept).max() > 1e38
        assert np.isfinite(expected[:bad]).all()
        assert not np.isfinite(expected[bad])


@MANY
@given(st.data())
def test_encoding_gives_the_same_bytes(other: Kernels, data: st.DataObject) -> None:
    spec, manifest = data.draw(specs), data.draw(manifests)
    update = data.draw(updates(manifest))
    first, second = Residual(manifest), Residual(manifest)
    for _ in range(2):
        payload = encode(update, first, spec, manifest, NUMPY)
        assert encode(update, second, spec, manifest, other) == payload
        codec = codec_for(spec, manifest, other)
        values, expected = codec.decode(payload, SITE), decode(payload, spec, manifest, SITE)
        assert codec.compress(densify(values))[0] == codec_for(spec, manifest).compress(densify(expected))[0] == payload
        for one in (first, second):
            one.settle(True)
    assert all(np.array_equal(first.values[name], second.values[name]) for name in first.values)


def test_a_large_model_is_the_same_in_parallel() -> None:
    """Sizes at which threads and the sampled threshold are used; rows of one scale, of many, and of zeros."""
    rng = np.random.default_rng(5)
    manifest = Manifest((TensorSpec("a", (1500, 1500)), TensorSpec("b", (40,)), TensorSpec("c", (3, 4096))))
    update = {t.name: rng.standard_t(3, size=t.shape).astype(np.float32) for t in manifest}
    update["a"][500:700] *= np.exp(rng.normal(size=(200, 1), scale=4)).astype(np.float32)
    update["a"][700:1000] = 0
    for spec in (
        CodecSpec(),
        CodecSpec("DGC", Fraction(1, 1000), momentum=Fraction(1, 2)),
        CodecSpec("DGC", Fraction(3, 4)),
    ):
        payload = encode(update, Residual(manifest), spec, manifest, NUMPY)
        assert encode(update, Residual(manifest), spec, manifest, compiled_kernels) == payload
        assert encode(update, Residual(manifest), spec, manifest, Torch("cpu")) == payload
    update["a"][1499, 7] = np.inf
    with pytest.raises(NonFiniteUpdate) as error:
        encode(update, Residual(manifest), CodecSpec(), manifest, compiled_kernels)
    assert (error.value.tensor, error.value.index) == ("a", 1499 * 1500 + 7)


def test_small_models_need_no_compiler() -> None:
    assert kernels.for_model(kernels.COMPILED_FROM_PARAMETERS - 1) is NUMPY
    assert isinstance(kernels.for_model(kernels.COMPILED_FROM_PARAMETERS), compiled.Compiled)


def test_code_is_only_cached_where_nobody_else_can_write(tmp_path: Path) -> None:
    assert jit.is_ours(tmp_path / "new")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert not jit.is_ours(tmp_path / "open")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    assert not jit.is_ours(tmp_path / "link")
    (tmp_path / "file").touch()
    assert not jit.is_ours(tmp_path / "file" / "below")
    if os.getuid() == 0:
        os.chown(tmp_path / "new", 12345, -1)
        assert not jit.is_ours(tmp_path / "new")


def test_without_a_writable_directory_code_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "_candidates", lambda: iter([Path("/proc/covey")]))
    jit.cache_directory.cache_clear()
    try:
        assert jit.cache_directory() is None
        assert jit.jit(lambda x: x + 1)(2) == 3
    finally:
        jit.cache_directory.cache_clear()


def test_the_validator_starts_without_the_compiler() -> None:
    code = "import sys, covey_validator.process; assert not {'numba', 'torch', 'ray'} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": ":".join(path for path in sys.path if path)}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)
