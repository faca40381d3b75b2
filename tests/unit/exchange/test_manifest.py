"""Names, shapes and digests of models."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from blake3 import blake3
from covey_exchange.manifest import Manifest, ManifestError, TensorSpec, model_digest
from hypothesis import given
from hypothesis import strategies as st


def test_the_order_in_which_tensors_are_given_changes_nothing() -> None:
    a, b = TensorSpec("a.weight", (2, 3)), TensorSpec("b", ())
    assert Manifest((a, b)) == Manifest((b, a))
    assert Manifest((a, b)).digest == Manifest((b, a)).digest
    assert Manifest((a, b)).parameters == 7


def test_model_digest_is_blake3_over_name_shape_and_little_endian_values() -> None:
    value = np.array([[1.0, -2.0]], dtype=np.float32)
    expected = struct.pack("<I1sI2Q", 1, b"w", 2, 1, 2) + struct.pack("<2f", 1.0, -2.0)
    assert model_digest({"w": value}) == blake3(expected).digest()


def test_model_digest_sees_memory_layout_never() -> None:
    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert model_digest({"w": value}) == model_digest({"w": np.asfortranarray(value)})


@given(st.permutations(["a", "b", "c"]))
def test_model_digest_sees_insertion_order_never(names: list[str]) -> None:
    arrays = {name: np.full(3, ord(name), dtype=np.float32) for name in names}
    assert model_digest(arrays) == model_digest(dict(sorted(arrays.items())))


def test_digests_tell_shapes_and_names_apart() -> None:
    value = np.zeros(6, dtype=np.float32)
    digests = {model_digest(m) for m in ({"w": value}, {"v": value}, {"w": value.reshape(2, 3)})}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("arrays", "tensor"),
    [
        ({"a": np.zeros(2, np.float32)}, "b"),
        ({"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}, "b"),
        ({"a": np.zeros(2, np.float64), "b": np.zeros((), np.float32)}, "a"),
        ({"a": np.zeros(2, np.float32), "b": np.zeros((), np.float32), "c": np.zeros(1, np.float32)}, "c"),
    ],
)
def test_a_difference_names_the_tensor(arrays: dict[str, np.ndarray], tensor: str) -> None:
    with pytest.raises(ManifestError) as error:
        Manifest((TensorSpec("a", (2,)), TensorSpec("b", ()))).check(arrays)
    assert error.value.tensor == tensor


@pytest.mark.parametrize("shape", [(0,), (2**20, 2**21), (1,) * 17])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ManifestError):
        TensorSpec("w", shape)


def test_duplicate_names_are_refused() -> None:
    with pytest.raises(ManifestError):
        Manifest((TensorSpec("w", (1,)), TensorSpec("w", (2,))))
