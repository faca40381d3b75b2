"""Records have canonical bytes: what a member has committed to is what an auditor evaluates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from covey_trainer.errors import DataInvalid
from covey_trainer.opened import from_bytes, to_bytes
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import default_collate

numbers = st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.booleans()
tensors = st.lists(st.integers(0, 255), min_size=1, max_size=4).map(lambda v: torch.tensor(v, dtype=torch.uint8))
names = st.text("abc.#", min_size=1, max_size=3)
items = st.recursive(
    numbers | tensors,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(tuple) | st.dictionaries(names, inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return bool(first.dtype == second.dtype and torch.equal(first, second))


@given(items)
def test_a_record_collates_alike_after_its_bytes(item: Any):
    assert same(default_collate([from_bytes(to_bytes(item))]), default_collate([item]))
    assert to_bytes(from_bytes(to_bytes(item))) == to_bytes(item)


def test_arrays_are_tensors():
    assert torch.equal(from_bytes(to_bytes(np.arange(3))), torch.arange(3))


@pytest.mark.parametrize("item", ["words", {"a/b": 1}, {1: 2}, object()])
def test_what_has_no_canonical_bytes_is_refused(item: object):
    with pytest.raises(DataInvalid):
        to_bytes(item)


def test_other_bytes_are_no_record(tmp_path: Path):
    with pytest.raises(DataInvalid, match="cannot be read"):
        from_bytes(b"junk")
