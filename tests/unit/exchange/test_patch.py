"""What one side writes of a difference is what the other makes of it, and nothing that does not fit is applied."""

from __future__ import annotations

import numpy as np
import pytest
from covey_exchange import patch
from covey_exchange.codec import Sparse
from covey_exchange.patch import PatchInvalid
from safetensors.numpy import load, save

MODEL = {"bias": np.array([0.0, -0.0], np.float32), "weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_a_patch_travels_as_safetensors() -> None:
    parts = {"weight": Sparse(np.array([1, 5]), np.array([7, 8], np.float32), (2, 3)), "bias": MODEL["bias"] + 1}
    made = patch.apply(MODEL, load(save(dict(patch.of_parts(parts)))))
    assert made["weight"].tolist() == [[0, 7, 2], [3, 4, 8]]
    assert made["bias"].tolist() == [1, 1]
    assert MODEL["weight"][0, 1] == 1, "the model itself is not changed"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"whole/other": np.zeros(1, np.float32)}, "not part of the model"),
        ({"whole/bias": np.zeros(3, np.float32)}, "shape"),
        ({"indices/bias": np.array([2]), "values/bias": np.zeros(1, np.float32)}, "beyond"),
        ({"indices/bias": np.array([-1]), "values/bias": np.zeros(1, np.float32)}, "beyond"),
        ({"indices/bias": np.array([1]), "values/bias": np.zeros(2, np.float32)}, "one value"),
        ({"indices/bias": np.array([1])}, "one value"),
    ],
)
def test_what_does_not_fit_is_refused(changes: patch.Patch, words: str) -> None:
    with pytest.raises(PatchInvalid, match=words):
        patch.apply(MODEL, changes)
