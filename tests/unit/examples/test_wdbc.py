"""The example's records: what follows schema wdbc-v1 and what does not, and how they are dealt out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from covey_api.subnet import SubnetSpec
from covey_api.task import TaskSpec
from covey_api.terms import TaskTerms
from covey_trainer.errors import DataInvalid
from make_data import KINDS, split
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from wdbc.records import FEATURES, read
from wdbc_rounds import play

EXAMPLE = Path(__file__).parents[3] / "examples" / "wdbc"


def store(directory: Path, **arrays: Any) -> Path:
    np.savez(directory / "records.npz", **arrays)
    return directory


def valid() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {"x": generator.random((8, FEATURES), dtype=np.float32), "y": np.array([0, 1] * 4)}


def test_records_in_schema_are_read_and_scaled(tmp_path: Path) -> None:
    x, y = read(store(tmp_path, **valid()))
    assert (x.shape, x.dtype, y.dtype) == ((8, FEATURES), np.float32, np.float32)
    assert np.abs(x).max() <= 2
    assert list(y) == [0, 1] * 4


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"x": np.zeros((8, 29), np.float32)}, r"x has shape \(8, 29\)"),
        ({"x": np.zeros(8, np.float32)}, r"x has shape \(8,\)"),
        ({"x": np.full((8, FEATURES), np.nan, np.float32)}, "not finite in record 0"),
        ({"x": np.zeros((8, FEATURES), np.int64)}, "int64"),
        ({"y": np.zeros(7, np.int64)}, r"y has shape \(7,\)"),
        ({"y": np.full(8, 2)}, "other labels"),
        ({"y": np.array(["benign"] * 8)}, "other labels"),
    ],
)
def test_records_out_of_schema_are_named(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match=complaint):
        read(store(tmp_path, **(valid() | change)))


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid, match='"y"'):
        read(store(tmp_path, x=valid()["x"]))


@pytest.mark.parametrize("content", [None, b"", b"not an archive"])
def test_a_file_that_is_no_archive_is_the_data_owners_to_mend(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "records.npz").write_bytes(content)
    with pytest.raises(DataInvalid, match=r"records\.npz cannot be read"):
        read(tmp_path)


def test_pickled_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataInvalid):
        read(store(tmp_path, x=np.array([{"a": 1}], dtype=object), y=np.zeros(1)))


@pytest.mark.parametrize("members", [1, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_test_set_is_common_and_stratified_and_members_differ(members: int, seed: int) -> None:
    records = load_breast_cancer()
    y = (records.target == 0).astype(np.int64)
    kinds = records.data[:, [list(records.feature_names).index(kind) for kind in KINDS]]
    test, parts = split(kinds, y, members, seed)
    assert sorted(np.concatenate([test, *parts])) == list(range(len(y)))
    assert y[test].mean() == pytest.approx(y.mean(), abs=0.01)
    assert len(parts) == members
    assert all(0 < y[part].sum() < len(part) for part in parts), "everybody sees both diagnoses"
    rank = np.argsort(np.argsort(kinds, axis=0), axis=0) / len(y)

    def apart(where: NDArray[np.int64]) -> NDArray[np.float64]:
        """Malignant from benign, in mean ranks from 0 to 1 of what the deal goes by."""
        malignant, benign = (rank[where[y[where] == label]].mean(axis=0) for label in (1, 0))
        return np.asarray(malignant - benign)

    def bias(where: NDArray[np.int64]) -> float:
        return float(np.linalg.norm(apart(where) - apart(np.arange(len(y)))))

    assert bias(test) < 0.15
    assert members == 1 or min(map(bias, parts)) > 0.3


@pytest.mark.parametrize("seed", [0, 1])
def test_together_beats_every_member_alone_and_comes_near_pooled(seed: int, tmp_path: Path) -> None:
    found = play(tmp_path, seed)
    assert found.together >= max(found.alone)
    assert found.together >= found.pooled - 0.005
    assert sum(found.earned) <= 1
    assert min(found.earned) > 0.2, "equal members earn about equally"


def test_the_task_file_is_a_task_that_can_be_published() -> None:
    document = yaml.safe_load((EXAMPLE / "task.yaml").read_text())
    terms = TaskTerms.of(document["metadata"]["name"], TaskSpec.model_validate(document["spec"]))
    assert TaskTerms.parse(terms.canonical()) == terms


def test_the_subnet_sample_names_every_field_that_a_member_sets() -> None:
    text = (EXAMPLE / "subnet.yaml").read_text()
    SubnetSpec.model_validate(yaml.safe_load(text)["spec"])
    fields = {field.alias or name for name, field in SubnetSpec.model_fields.items()}
    assert {name for name in fields if f"\n  {name}:" not in text} == set()
