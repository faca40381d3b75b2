"""A model as what a round changed in another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from covey_exchange.manifest import Array
from covey_exchange.patch import Patch


@dataclass(frozen=True)
class Step:
    """How a model is made of another one.

    Attributes:
        parent: digest of that other model.
        changes: what makes this one of it.
    """

    parent: bytes
    changes: Patch

    @property
    def bytes(self) -> int:
        """What it takes to keep it."""
        return sum(array.nbytes for array in self.changes.values())

    def pays(self, patches_before: int, parameters: Mapping[str, Array]) -> bool:
        """Whether to keep this instead of the whole model; `patches_before` are the parent's, in bytes."""
        return patches_before + self.bytes < sum(array.nbytes for array in parameters.values())
