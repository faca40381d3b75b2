"""Error feedback: what compression left out comes back in later rounds (Karimireddy et al. 2019, arXiv:1901.09847).

e <- decay * e + delta before encoding; with momentum (DGC, arXiv:1712.01887) u <- m * u + delta, e <- e + u. What was
sent leaves e, and u becomes zero there, only when the round is certified and accepted; if the update was late or left
out, it stays and is sent again. If the round was discarded, the site goes back to the state before `absorb`, of which
it has a copy on disk: its delta starts at a model at which the next round starts again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covey_exchange import scatter, tensorfile
from covey_exchange.codec.errors import NonFiniteUpdate, ResidualCorrupt, ResidualUnsettled
from covey_exchange.codec.kernels import NUMPY, Kernels
from covey_exchange.codec.spec import Feedback
from covey_exchange.codec.update import Sparse, Update
from covey_exchange.manifest import Array, Manifest, ManifestError
from covey_exchange.norm import norm
from covey_exchange.tensorfile import TensorFileInvalid

NEW = ".new"  # ends the name of a file until it is complete; one that is there is written over
_VALUES = "residual/"
_MOMENTUM = "momentum/"
_DENSE = "staged.dense/"
_INDICES = "staged.indices/"
_LEVELS = "staged.values/"


class Residual:
    """The error feedback of one site; float32, same names and shapes as the model.

    Attributes:
        values: tensor name -> e, contiguous.
        momentum: tensor name -> u; None before the first update of a codec that has momentum.
        staged: what the last encoded update sent, until `settle`; None when settled.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.values: dict[str, Array] = {t.name: np.zeros(t.shape, dtype=np.float32) for t in manifest}
        self.momentum: dict[str, Array] | None = None
        self.staged: Update | None = None

    def absorb(
        self, update: Mapping[str, Array], feedback: Feedback, kernels: Kernels = NUMPY, *, owned: bool = False
    ) -> None:
        """Add an update.

        Args:
            update: tensor name -> float32 array in the model's shape.
            feedback: decay, momentum and limit of the norm.
            kernels: implementation of the loops.
            owned: whether the update's arrays are ours from here on: the sums are written over them, which spares a
                large model memory and a pass over it.

        Raises:
            ManifestError: names or shapes differ from the model's.
            NonFiniteUpdate: the sum has NaN or infinity; names the tensor and the first index.
            ResidualUnsettled: the last update has not been settled.
            Whatever is raised, the residual is as it was.
        """
        if self.staged is not None:
            raise ResidualUnsettled("the last update is neither accepted nor discarded: call settle() first")
        self.manifest.check(update)
        added = {name: np.ascontiguousarray(update[name]) for name in self.values}
        if feedback.max_norm is not None:
            added = _clipped(added, float(feedback.max_norm))
        momentum = None
        if feedback.momentum is not None:
            if self.momentum is None:
                momentum = {name: np.asarray(value + np.float32(0)) for name, value in added.items()}
            else:
                momentum = _sum(self.momentum, added, feedback.momentum, kernels, over_added=owned)
            added, owned = momentum, False
        self.values = _sum(self.values, added, feedback.decay, kernels, over_added=owned)
        self.momentum = momentum

    def stage(self, sent: Update) -> None:
        """Remember what of e is on its way."""
        self.staged = sent

    def settle(self, accepted: bool) -> None:
        """An accepted round is over; the staged update's sent part leaves e if it was merged.

        Raises:
            ResidualUnsettled: nothing is staged.
        """
        if self.staged is None:
            raise ResidualUnsettled("no update is staged: encode() first")
        if accepted:
            for name, part in self.staged.items():
                e, u = self.values[name], self.momentum[name] if self.momentum else None
                if isinstance(part, Sparse):
                    scatter.subtract(e.reshape(-1), part.indices, part.values)
                    if u is not None:
                        u.reshape(-1)[part.indices] = 0
                else:
                    self.values[name] = np.asarray(e - part)
                    if u is not None:
                        u.fill(0)
        self.staged = None

    def save(self, path: Path) -> None:
        """Write e and the staged part as one safetensors file, atomically and durably."""
        arrays: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {}
        for name, value in self.values.items():
            arrays[_VALUES + name] = value
        for name, value in (self.momentum or {}).items():
            arrays[_MOMENTUM + name] = value
        for name, part in (self.staged or {}).items():
            if isinstance(part, Sparse):
                arrays[_INDICES + name] = part.indices
                arrays[_LEVELS + name] = part.values
            else:
                arrays[_DENSE + name] = part
        metadata = {
            "manifest": self.manifest.digest.hex(),
            "momentum": str(self.momentum is not None),
            "staged": str(self.staged is not None),
        }
        temporary = path.with_name(path.name + NEW)
        tensorfile.write(temporary, arrays, metadata, uncached=True)  # read after a restart only
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)

    @classmethod
    def load(cls, path: Path, manifest: Manifest) -> Residual:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ResidualCorrupt: unreadable, or of another model.
        """
        try:
            arrays, metadata = tensorfile.read(path)
        except TensorFileInvalid as error:
            raise ResidualCorrupt(str(path), str(error)) from error
        if metadata.get("manifest") != manifest.digest.hex():
            raise ResidualCorrupt(str(path), "belongs to another model")
        residual = cls(manifest)
        try:
            residual.values = _of(arrays, _VALUES, manifest)
            if metadata.get("momentum") == str(True):
                residual.momentum = _of(arrays, _MOMENTUM, manifest)
            if metadata.get("staged") == str(True):
                residual.staged = {tensor.name: _staged(arrays, tensor.name, tensor.shape) for tensor in manifest}
        except (KeyError, ManifestError) as error:
            raise ResidualCorrupt(str(path), f"incomplete: {error}") from error
        return residual


def _sum(
    before: Mapping[str, Array], added: Mapping[str, Array], decay: Fraction, kernels: Kernels, *, over_added: bool
) -> dict[str, Array]:
    """Add to what decays, in arrays other than `before`."""
    factor = np.float32(float(decay))
    found: dict[str, Array] = {}
    for name, old in before.items():
        new = added[name]
        out = new if over_added and new.flags.writeable else np.empty_like(new)
        bad = kernels.accumulate(old.reshape(-1), new.reshape(-1), factor, out.reshape(-1))
        if bad >= 0:
            raise NonFiniteUpdate(name, bad)
        found[name] = out.reshape(old.shape)
    return found


def _clipped(update: dict[str, Array], max_norm: float) -> dict[str, Array]:
    """The update, scaled down to the norm if it exceeds it; values that are not finite stay so and are found later."""
    with np.errstate(over="ignore", invalid="ignore"):
        length = norm(update.values())
        if not length > max_norm:
            return update
        factor = np.float32(max_norm / length)
        return {name: np.asarray(value * factor) for name, value in update.items()}


def _of(arrays: Mapping[str, NDArray[np.generic]], kind: str, manifest: Manifest) -> dict[str, Array]:
    found = {tensor.name: arrays[kind + tensor.name] for tensor in manifest}
    manifest.check(found)
    return {name: array.astype(np.float32, copy=False) for name, array in found.items()}


def _staged(arrays: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]) -> Sparse | Array:
    if _DENSE + name in arrays:
        return arrays[_DENSE + name].astype(np.float32, copy=False)
    indices, values = arrays[_INDICES + name].astype(np.int64, copy=False), arrays[_LEVELS + name]
    if indices.shape != values.shape or (indices.size and not 0 <= indices.min() <= indices.max() < prod(shape)):
        raise ManifestError(name, "what was sent of it does not fit")
    return Sparse(indices, values.astype(np.float32, copy=False), shape)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
