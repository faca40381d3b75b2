"""Error feedback: what compression left out comes back in later rounds (Karimireddy et al. 2019, arXiv:1901.09847).

e <- decay * e + delta before encoding. What was sent leaves e only when the round is certified and accepted; if the
update was late, left out or the round was discarded, it stays and is sent again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from covey_exchange.codec.errors import NonFiniteUpdate, ResidualCorrupt, ResidualUnsettled
from covey_exchange.codec.update import Sparse, Update
from covey_exchange.manifest import Array, Manifest, ManifestError

DECAY = 0.95

_VALUES = "residual/"
_DENSE = "staged.dense/"
_INDICES = "staged.indices/"
_LEVELS = "staged.values/"


class Residual:
    """The error feedback of one site; float32, same names and shapes as the model.

    Attributes:
        values: tensor name -> e.
        staged: what the last encoded update sent, until `settle`; None when settled.
    """

    def __init__(self, manifest: Manifest, decay: float = DECAY) -> None:
        self.manifest = manifest
        self.decay = np.float32(decay)
        self.values: dict[str, Array] = {t.name: np.zeros(t.shape, dtype=np.float32) for t in manifest}
        self.staged: Update | None = None

    def plus(self, update: Mapping[str, Array]) -> dict[str, Array]:
        """Compute decay * e + update as new arrays; e stays.

        Raises:
            ManifestError: names or shapes differ from the model's.
            NonFiniteUpdate: the sum has NaN or infinity; names the tensor and the first index.
            ResidualUnsettled: the last update has not been settled.
        """
        if self.staged is not None:
            raise ResidualUnsettled("the last update is neither accepted nor discarded: call settle() first")
        self.manifest.check(update)
        result: dict[str, Array] = {}
        for name, e in self.values.items():
            with np.errstate(over="ignore", invalid="ignore"):
                total = np.asarray(e * self.decay + update[name])
            bad = np.flatnonzero(~np.isfinite(total))
            if len(bad):
                raise NonFiniteUpdate(name, int(bad[0]))
            result[name] = total
        return result

    def stage(self, values: dict[str, Array], sent: Update) -> None:
        """Take `values` (from `plus`) as the new e, of which `sent` is on its way."""
        self.values = values
        self.staged = sent

    def settle(self, accepted: bool) -> None:
        """The round of the staged update is over; its sent part leaves e if the update was merged and accepted.

        Raises:
            ResidualUnsettled: nothing is staged.
        """
        if self.staged is None:
            raise ResidualUnsettled("no update is staged: encode() first")
        if accepted:
            for name, part in self.staged.items():
                e = self.values[name]
                if isinstance(part, Sparse):
                    e.reshape(-1)[part.indices] -= part.values
                else:
                    self.values[name] = np.asarray(e - part)
        self.staged = None

    def save(self, path: Path) -> None:
        """Write e and the staged part as one safetensors file, atomically and durably."""
        arrays: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {}
        for name, value in self.values.items():
            arrays[_VALUES + name] = np.ascontiguousarray(value)
        for name, part in (self.staged or {}).items():
            if isinstance(part, Sparse):
                arrays[_INDICES + name] = part.indices
                arrays[_LEVELS + name] = part.values
            else:
                arrays[_DENSE + name] = np.ascontiguousarray(part)
        metadata = {"manifest": self.manifest.digest.hex(), "staged": str(self.staged is not None)}
        temporary = path.with_name(path.name + ".new")
        save_file(arrays, temporary, metadata)
        _fsync(temporary)
        temporary.replace(path)
        _fsync(path.parent)

    @classmethod
    def load(cls, path: Path, manifest: Manifest, decay: float = DECAY) -> Residual:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ResidualCorrupt: unreadable, or of another model.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except SafetensorError as error:
            raise ResidualCorrupt(str(path), str(error)) from error
        if metadata.get("manifest") != manifest.digest.hex():
            raise ResidualCorrupt(str(path), "belongs to another model")
        residual = cls(manifest, decay)
        try:
            residual.values = {tensor.name: arrays[_VALUES + tensor.name] for tensor in manifest}
            manifest.check(residual.values)
            if metadata.get("staged") == str(True):
                residual.staged = {tensor.name: _staged(arrays, tensor.name, tensor.shape) for tensor in manifest}
        except (KeyError, ManifestError) as error:
            raise ResidualCorrupt(str(path), f"incomplete: {error}") from error
        return residual


def _staged(arrays: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]) -> Sparse | Array:
    if _DENSE + name in arrays:
        return arrays[_DENSE + name].astype(np.float32, copy=False)
    indices = arrays[_INDICES + name].astype(np.int64, copy=False)
    return Sparse(indices, arrays[_LEVELS + name].astype(np.float32, copy=False), shape)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
