"""Where one model differs from another, as named arrays that fit in a safetensors file.

Of a tensor that differs in some elements there are `indices/NAME` (ascending, into the flattened tensor; int32, or
int64 if the tensor is too large for it) and `values/NAME` (float32), of one that may differ everywhere `whole/NAME`
(float32, in shape).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
from numpy.typing import NDArray

from covey_exchange.codec import Sparse, Update
from covey_exchange.manifest import Array

_INDICES, _VALUES, _WHOLE = "indices/", "values/", "whole/"

Patch = Mapping[str, NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64]]

_INT32_ELEMENTS = 2**31


class PatchInvalid(ValueError):
    """A patch that does not fit the model; names the tensor."""

    def __init__(self, tensor: str, problem: str) -> None:
        super().__init__(f'tensor "{tensor}": {problem}')


def of_parts(parts: Update) -> Patch:
    """The patch that sets these elements."""
    patch: dict[str, NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64]] = {}
    for name, part in parts.items():
        if isinstance(part, Sparse):
            small = prod(part.shape) <= _INT32_ELEMENTS
            patch[_INDICES + name] = part.indices.astype(np.int32) if small else part.indices
            patch[_VALUES + name] = part.values
        else:
            patch[_WHOLE + name] = part
    return patch


def apply(model: Mapping[str, Array], patch: Patch) -> dict[str, Array]:
    """A copy of the model with what the patch sets; tensors that do not differ are the model's own.

    Raises:
        PatchInvalid: unknown tensor, another shape, or indices that are not in it.
    """
    patched = dict(model)
    for key, array in patch.items():
        kind, _, name = key.partition("/")
        if name not in model:
            raise PatchInvalid(name, "not part of the model")
        if kind == "whole":
            if array.shape != model[name].shape:
                raise PatchInvalid(name, f"shape {array.shape}, the model has {model[name].shape}")
            patched[name] = array.astype(np.float32, copy=False)
        elif kind == "indices":
            patched[name] = _with(model[name], name, array.astype(np.int64, copy=False), patch.get(_VALUES + name))
    return patched


def _with(
    tensor: Array,
    name: str,
    indices: NDArray[np.int64],
    values: NDArray[np.float32] | NDArray[np.int32] | NDArray[np.int64] | None,
) -> Array:
    if values is None or values.shape != indices.shape:
        raise PatchInvalid(name, "not one value for each index")
    if indices.size and (int(indices.min()) < 0 or int(indices.max()) >= tensor.size):
        raise PatchInvalid(name, f"indices beyond its {tensor.size} elements")
    changed = np.array(tensor, dtype=np.float32, order="C")
    changed.reshape(-1)[indices] = values
    return changed
