"""Models as safetensors: files that the driver hands over, files for it, and bytes for peers. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from covey_exchange.manifest import Array, Manifest, ManifestError
from covey_exchange.proto.driver_pb2 import Tensors
from safetensors import SafetensorError
from safetensors.numpy import load, save, save_file

from covey_validator import durable

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
        arrays = load(data)
        (manifest or Manifest.from_arrays(arrays)).check(arrays)
    except (SafetensorError, ManifestError) as error:
        raise TensorsInvalid(f"{source}: {error}") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise TensorsInvalid(f'{source}: tensor "{name}" has NaN or infinity')
    return arrays


def dump(parameters: Mapping[str, Array]) -> bytes:
    """Safetensors bytes, the same for the same parameters."""
    return save({name: np.ascontiguousarray(parameters[name]) for name in sorted(parameters)})


def bytes_limit(manifest: Manifest) -> int:
    """The most that a safetensors file of a model can take."""
    return 4 * manifest.parameters + HEADER_BYTES_MAX


class SharedDirectory:
    """The directory that driver and validator mount."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, tensors: Tensors, manifest: Manifest | None) -> dict[str, Array]:
        """A parameter set of the driver, read once and checked before use.

        Raises:
            TensorsInvalid: no plain file name, no such file, too large, another SHA-256, or as `parse`.
        """
        name = tensors.file
        if name != Path(name).name or name in ("", ".", ".."):
            raise TensorsInvalid(f'"{name}" is no plain file name')
        limit = bytes_limit(manifest) if manifest else MODEL_BYTES_MAX
        try:
            descriptor = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                if os.fstat(descriptor).st_size > limit:
                    raise TensorsInvalid(f'"{name}" has more than the {limit} bytes that this model can take')
                data = file.read()
        except OSError as error:
            raise TensorsInvalid(f'"{name}" cannot be read: {error.strerror}') from error
        if hashlib.sha256(data).digest() != tensors.sha256:
            raise TensorsInvalid(f'"{name}" does not have the SHA-256 that was announced')
        return parse(data, manifest, name)

    def write(self, round_number: int, label: str, parameters: Mapping[str, Array]) -> Tensors:
        """Put a parameter set there for the driver; the same parameters give the same file."""
        path = self._path / f"validator-{round_number}-{label}.safetensors"
        data = dump(parameters)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_bytes(data)
        temporary.replace(path)  # whole or not at all, but not synced: after a power cut all here is written anew
        return Tensors(file=path.name, sha256=hashlib.sha256(data).digest())

    def clear(self, up_to_round: int) -> None:
        """Remove our files of rounds up to this one: the driver has answered, so it is done with them."""
        for path in self._path.glob("validator-*.safetensors"):
            if int(path.name.split("-")[1]) <= up_to_round:
                path.unlink()


def write_file(path: Path, parameters: Mapping[str, Array]) -> None:
    """A model file, atomically and durably."""
    arrays = {name: np.ascontiguousarray(parameters[name]) for name in sorted(parameters)}
    durable.write_with(path, lambda temporary: save_file(arrays, temporary))
