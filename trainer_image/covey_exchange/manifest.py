"""What a model is made of: names and shapes of its tensors, and the digests that bind them.

All parameters travel and are merged as float32, whatever the program trains in.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

Array = NDArray[np.float32]

NAME_BYTES_MAX = 1024
DIMENSIONS_MAX = 16
ELEMENTS_MAX = 2**40


class ManifestError(ValueError):
    """Tensors that no manifest can describe, or that differ from the one agreed on; names the tensor."""

    def __init__(self, tensor: str, problem: str) -> None:
        super().__init__(f'tensor "{tensor}": {problem}')
        self.tensor = tensor


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name and shape of one tensor; a scalar has the empty shape and one element."""

    name: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.name.encode()) <= NAME_BYTES_MAX:
            raise ManifestError(self.name[:80], f"a name has 1 to {NAME_BYTES_MAX} bytes")
        if len(self.shape) > DIMENSIONS_MAX:
            raise ManifestError(self.name, f"{len(self.shape)} dimensions, at most {DIMENSIONS_MAX} are allowed")
        if any(extent < 1 for extent in self.shape) or prod(self.shape) > ELEMENTS_MAX:
            raise ManifestError(self.name, f"shape {self.shape} must have 1 to 2^40 elements")

    @property
    def elements(self) -> int:
        """Product of the extents."""
        return prod(self.shape)

    def header(self) -> bytes:
        """Unambiguous bytes of name and shape: length-prefixed UTF-8, then the extents as 64-bit little-endian."""
        name = self.name.encode()
        return struct.pack(f"<I{len(name)}sI{len(self.shape)}Q", len(name), name, len(self.shape), *self.shape)


@dataclass(frozen=True)
class Manifest:
    """The tensors of a model in ascending order of name (UTF-8 bytes), without duplicates."""

    tensors: tuple[TensorSpec, ...]
    _by_name: dict[str, TensorSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.tensors, key=lambda tensor: tensor.name.encode()))
        by_name = {tensor.name: tensor for tensor in ordered}
        if not ordered:
            raise ManifestError("", "a model has at least one tensor")
        for first, second in pairwise(ordered):
            if first.name == second.name:
                raise ManifestError(first.name, "named twice")
        object.__setattr__(self, "tensors", ordered)
        object.__setattr__(self, "_by_name", by_name)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Manifest:
        """The manifest of a state dictionary."""
        return cls(tuple(TensorSpec(name, tuple(array.shape)) for name, array in arrays.items()))

    def __iter__(self) -> Iterator[TensorSpec]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @property
    def parameters(self) -> int:
        """Elements of all tensors together."""
        return sum(tensor.elements for tensor in self.tensors)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over all names and shapes, 32 bytes."""
        return hashlib.sha256(b"".join(tensor.header() for tensor in self.tensors)).digest()

    def check(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Hold arrays to this manifest.

        Raises:
            ManifestError: a tensor is missing, unknown, of another shape, or not float32.
        """
        for name in arrays:
            if name not in self._by_name:
                raise ManifestError(name, "not part of the model")
        for tensor in self.tensors:
            array = arrays.get(tensor.name)
            if array is None:
                raise ManifestError(tensor.name, "missing")
            if tuple(array.shape) != tensor.shape:
                raise ManifestError(tensor.name, f"shape {tuple(array.shape)}, the model has {tensor.shape}")
            if array.dtype != np.float32:
                raise ManifestError(tensor.name, f"dtype {array.dtype}, float32 is needed")


def model_digest(parameters: Mapping[str, Array]) -> bytes:
    """The digest of a model that goes on chain: BLAKE3 over sorted (name, shape, little-endian float32 bytes).

    Raises:
        ManifestError: a tensor is not float32 or has no valid name or shape.
    """
    manifest = Manifest.from_arrays(parameters)
    manifest.check(parameters)
    digest = blake3()
    for tensor in manifest:
        digest.update(tensor.header())
        digest.update(np.ascontiguousarray(parameters[tensor.name], dtype="<f4").reshape(-1).view(np.uint8).data)
    return digest.digest()
