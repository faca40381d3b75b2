"""Models come back from the disk bit for bit, however they were written, and nothing that is needed is removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from covey_exchange import patch
from covey_exchange.codec import Sparse
from covey_exchange.manifest import Array, model_digest
from covey_validator import durable
from covey_validator.models import Models
from covey_validator.steps import Step
from covey_validator.tensors import TensorsInvalid, parse

Named = tuple[bytes, dict[str, Array]]


def first() -> Named:
    rng = np.random.default_rng(0)
    made = {"bias": rng.normal(size=4).astype(np.float32), "weight": rng.normal(size=(30, 40)).astype(np.float32)}
    return model_digest(made), made


def after(before: Named, number: int, kept: int = 20) -> tuple[Named, Step]:
    """A model that differs from another one in some elements."""
    rng = np.random.default_rng(number)
    indices = np.sort(rng.choice(1200, kept, replace=False)).astype(np.int64)
    parts = {
        "weight": Sparse(indices, rng.normal(size=kept).astype(np.float32), (30, 40)),
        "bias": rng.normal(size=4).astype(np.float32),
    }
    made = patch.apply(before[1], patch.of_parts(parts))
    return (model_digest(made), made), Step(before[0], patch.of_parts(parts))


def chain(models: Models, length: int) -> list[Named]:
    made = [first()]
    models.put(*made[0])
    for number in range(1, length):
        model, step = after(made[-1], number)
        models.put(*model, step)
        made.append(model)
    return made


def check(models: Models, model: Named) -> None:
    digest, parameters = model
    found, data = models.get(digest), models.file(digest)
    assert data is not None
    for name, value in parameters.items():
        assert found[name].tobytes() == value.tobytes()
        assert parse(data, None, "file")[name].tobytes() == value.tobytes()


def test_a_restart_finds_every_model_bit_for_bit(tmp_path: Path) -> None:
    made = chain(Models(tmp_path), 60)
    again = Models(tmp_path)
    for model in made:
        assert model[0] in again
        check(again, model)
    suffixes = [path.suffix for path in tmp_path.iterdir()]
    assert suffixes.count(".patch") > 5 * suffixes.count(".safetensors"), "few are written whole"
    assert suffixes.count(".safetensors") > 1, "patches do not outgrow the model"


def test_what_the_kept_models_are_made_of_stays(tmp_path: Path) -> None:
    models = Models(tmp_path)
    made = chain(models, 10)
    models.keep({made[7][0], made[8][0]})
    check(Models(tmp_path), made[7])
    check(Models(tmp_path), made[8])
    assert made[9][0] not in models
    assert models.file(made[9][0]) is None
    with pytest.raises(FileNotFoundError):
        models.get(made[9][0])
    last, _ = after(made[8], 99, kept=1200)
    models.put(*last)
    models.keep({last[0]})
    assert [path.name for path in tmp_path.iterdir()] == [f"{last[0].hex()}.safetensors"]
    check(models, last)


def test_a_step_from_a_model_that_is_not_here_is_written_whole(tmp_path: Path) -> None:
    model, step = after(first(), 1)
    models = Models(tmp_path)
    models.put(*model, step)
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    check(models, model)


def test_a_step_that_changes_all_is_written_whole(tmp_path: Path) -> None:
    base = first()
    models = Models(tmp_path)
    models.put(*base)
    changed = {name: value + 1 for name, value in base[1].items()}
    model = (model_digest(changed), changed)
    models.put(*model, Step(base[0], patch.of_parts(changed)))
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"] * 2
    check(models, model)


def test_a_patch_whose_base_a_crash_left_out_is_no_model(tmp_path: Path) -> None:
    made = chain(Models(tmp_path), 3)
    (tmp_path / f"{made[0][0].hex()}.safetensors").unlink()
    again = Models(tmp_path)
    assert made[2][0] not in again
    again.put(*made[2])
    check(Models(tmp_path), made[2])


def test_a_power_cut_while_a_patch_is_written_leaves_the_models_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(tmp_path)
    made = chain(models, 3)
    lost, step = after(made[-1], 50)

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:100])
        raise OSError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(durable, "sync", cut)
        with pytest.raises(OSError, match="power cut"):
            models.put(*lost, step)
    again = Models(tmp_path)
    assert lost[0] not in again
    check(again, made[-1])
    again.put(*lost, step)
    check(Models(tmp_path), lost)


def test_other_bits_on_disk_are_found_out(tmp_path: Path) -> None:
    made = chain(Models(tmp_path), 3)
    path = tmp_path / f"{made[1][0].hex()}.patch"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(TensorsInvalid, match="another"):
        Models(tmp_path).get(made[1][0])
