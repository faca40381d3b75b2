"""Error feedback survives restarts, with what is on its way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from covey_exchange.codec import CodecSpec, Residual, ResidualCorrupt, Sparse, encode
from covey_exchange.manifest import Array, Manifest, TensorSpec

MANIFEST = Manifest((TensorSpec("bias", (4,)), TensorSpec("weight", (30, 40))))


def update(seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {tensor.name: rng.normal(size=tensor.shape).astype(np.float32) for tensor in MANIFEST}


@pytest.mark.parametrize("accepted", [True, False])
def test_a_site_that_restarts_in_the_middle_of_a_round_settles_as_if_it_had_not(tmp_path: Path, accepted: bool) -> None:
    residual = Residual(MANIFEST)
    encode(update(0), residual, CodecSpec(), MANIFEST)
    residual.save(tmp_path / "residual.safetensors")
    restarted = Residual.load(tmp_path / "residual.safetensors", MANIFEST)
    for one in (residual, restarted):
        one.settle(accepted)
    assert encode(update(1), residual, CodecSpec(), MANIFEST) == encode(update(1), restarted, CodecSpec(), MANIFEST)
    assert all(np.array_equal(residual.values[name], restarted.values[name]) for name in residual.values)


def test_a_settled_residual_has_nothing_staged_after_a_restart(tmp_path: Path) -> None:
    Residual(MANIFEST).save(tmp_path / "e")
    assert Residual.load(tmp_path / "e", MANIFEST).staged is None
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_broken_or_foreign_file_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Residual.load(tmp_path / "e", MANIFEST)
    Residual(MANIFEST).save(tmp_path / "e")
    with pytest.raises(ResidualCorrupt, match="another model"):
        Residual.load(tmp_path / "e", Manifest((TensorSpec("bias", (4,)),)))
    (tmp_path / "e").write_bytes((tmp_path / "e").read_bytes()[:-1])
    with pytest.raises(ResidualCorrupt):
        Residual.load(tmp_path / "e", MANIFEST)


@pytest.mark.parametrize("beyond", [-1, 1200])
def test_what_was_sent_must_fit_the_model_when_it_is_read_back(tmp_path: Path, beyond: int) -> None:
    residual = Residual(MANIFEST)
    encode(update(0), residual, CodecSpec(), MANIFEST)
    assert residual.staged is not None
    part = residual.staged["weight"]
    assert isinstance(part, Sparse)
    part.indices[-1] = beyond
    residual.save(tmp_path / "e")
    with pytest.raises(ResidualCorrupt, match="weight"):
        Residual.load(tmp_path / "e", MANIFEST)
