"""A decoded update: what a codec takes in and gives out, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from covey_exchange.manifest import Array


@dataclass(frozen=True)
class Sparse:
    """Some elements of a tensor; all others are zero.

    Attributes:
        indices: int64, strictly ascending, into the flattened tensor.
        values: float32, one for each index, finite.
        shape: of the tensor.
    """

    indices: NDArray[np.int64]
    values: Array
    shape: tuple[int, ...]

    def dense(self) -> Array:
        """The whole tensor, float32, in its shape."""
        flat = np.zeros(int(np.prod(self.shape, dtype=np.int64)), dtype=np.float32)
        flat[self.indices] = self.values
        return flat.reshape(self.shape)


Update = Mapping[str, Sparse | Array]
"""Tensor name -> its sparse or dense (float32, in shape) part, for every tensor of the manifest."""


def densify(update: Update) -> dict[str, Array]:
    """All tensors of an update as dense float32 arrays in shape."""
    return {name: part.dense() if isinstance(part, Sparse) else part for name, part in update.items()}
