"""Models as safetensors: files that the driver hands over, files for it, and bytes for peers. Nothing is unpickled."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from covey_exchange import tensorfile
from covey_exchange.manifest import Array, Manifest, ManifestError
from covey_exchange.patch import Patch
from covey_exchange.proto.driver_pb2 import Tensors
from covey_exchange.tensorfile import TensorFileInvalid
from numpy.typing import NDArray

from covey_validator import durable
from covey_validator.steps import Step

MODEL_BYTES_MAX = 2**40
HEADER_BYTES_MAX = 2**20  # names and shapes in a safetensors file


class TensorsInvalid(ValueError):
    """A parameter set that must not be used; says which file and tensor."""


def parse(data: bytes, manifest: Manifest | None, source: str) -> dict[str, Array]:
    """Parameters from safetensors bytes.

    Args:
        data: untrusted bytes.
        manifest: names and shapes to hold them to; None takes them as they are.
        source: for errors.

    Raises:
        TensorsInvalid: not safetensors, other names or shapes, not float32, NaN or infinity; names the tensor.
    """
    try:
        arrays = tensorfile.loads(data)
    except TensorFileInvalid as error:
        raise TensorsInvalid(f"{source}: {error}") from error
    return _finite(_checked(arrays, manifest, source), source)


def _checked(arrays: Mapping[str, NDArray[np.generic]], manifest: Manifest | None, source: str) -> dict[str, Array]:
    try:
        (manifest or Manifest.from_arrays(arrays)).check(arrays)
    except ManifestError as error:
        raise TensorsInvalid(f"{source}: {error}") from error
    return {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}


def _finite(arrays: dict[str, Array], source: str) -> dict[str, Array]:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise TensorsInvalid(f'{source}: tensor "{name}" has NaN or infinity')
    return arrays


def bytes_limit(manifest: Manifest) -> int:
    """The most that a safetensors file of a model can take."""
    return 4 * manifest.parameters + HEADER_BYTES_MAX


@dataclass(frozen=True)
class _Written:
    last_round: int  # that needs it
    files: list[Tensors]  # a whole model, then patches
    patch_bytes: int


class SharedDirectory:
    """The directory that driver and validator mount."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._models: dict[bytes, _Written] = {}

    def read(self, tensors: Tensors, manifest: Manifest | None, *, finite: bool = True) -> dict[str, Array]:
        """A parameter set of the driver, read once and checked before use.

        Args:
            tensors: file and digest.
            manifest: names and shapes to hold it to; None takes them as they are.
            finite: whether NaN and infinity are looked for, in a pass of its own over the values.

        Raises:
            TensorsInvalid: no plain file name, no such file, too large, another digest, or as `parse`.
        """
        name = tensors.file
        if name != Path(name).name or name in ("", ".", ".."):
            raise TensorsInvalid(f'"{name}" is no plain file name')
        limit = bytes_limit(manifest) if manifest else MODEL_BYTES_MAX
        try:
            descriptor = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                if size > limit:
                    raise TensorsInvalid(f'"{name}" has more than the {limit} bytes that this model can take')
                arrays, _, digest = tensorfile.read_from(file, size, hashed=True)
        except OSError as error:
            raise TensorsInvalid(f'"{name}" cannot be read: {error.strerror}') from error
        except TensorFileInvalid as error:
            raise TensorsInvalid(f"{name}: {error}") from error
        if digest != tensors.digest:
            raise TensorsInvalid(f'"{name}" does not have the BLAKE3 digest that was announced')
        checked = _checked(arrays, manifest, name)
        return _finite(checked, name) if finite else checked

    def write(self, round_number: int, label: str, arrays: Patch) -> Tensors:
        """Put arrays there for the driver; the same ones give the same file."""
        return self._put(f"validator-{round_number}-{label}.safetensors", arrays)

    def write_model(
        self, round_number: int, digest: bytes, parameters: Mapping[str, Array], step: Step | None = None
    ) -> list[Tensors]:
        """Put a model there for the driver, until a round is over; it is written once for all rounds that need it.

        Args:
            round_number: the last round that needs it, as far as is known.
            digest: of it.
            parameters: the model.
            step: what makes it of a model that may be there; then there is less to write.

        Returns:
            A whole model, and the patches that make this one of it.
        """
        known = self._models.get(digest) or self._written(digest, parameters, step)
        self._models[digest] = replace(known, last_round=max(known.last_round, round_number))
        return known.files

    def _written(self, digest: bytes, parameters: Mapping[str, Array], step: Step | None) -> _Written:
        parent = self._models.get(step.parent) if step is not None else None
        if step is None or parent is None or not step.pays(parent.patch_bytes, parameters):
            return _Written(0, [self._put(f"validator-model-{digest.hex()}.safetensors", parameters)], 0)
        patch = self._put(f"validator-patch-{digest.hex()}.safetensors", step.changes)
        return _Written(0, [*parent.files, patch], parent.patch_bytes + step.bytes)

    def clear(self, up_to_round: int) -> None:
        """Remove our files of rounds up to this one: the driver has answered, so it is done with them."""
        self._models = {d: written for d, written in self._models.items() if written.last_round > up_to_round}
        needed = {tensors.file for written in self._models.values() for tensors in written.files}
        for path in self._path.glob("validator-*.safetensors"):
            about = path.name.split("-")[1]
            over = int(about) <= up_to_round if about.isdecimal() else path.name not in needed
            if over:
                path.unlink()

    def _put(self, name: str, arrays: Patch) -> Tensors:
        temporary = self._path / f".{name}.new"
        digest = tensorfile.write(temporary, arrays, hashed=True)
        temporary.replace(self._path / name)  # whole or not at all, but not synced: a restart writes it anew
        return Tensors(file=name, digest=digest)


def write_file(path: Path, parameters: Mapping[str, Array]) -> None:
    """A model file, atomically and durably."""
    durable.write_with(path, lambda temporary: _write(temporary, parameters))


def _write(path: Path, parameters: Mapping[str, Array]) -> None:
    tensorfile.write(path, parameters, uncached=True)  # read after a restart, or for a peer that is behind
