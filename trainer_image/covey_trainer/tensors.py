"""Parameter sets as safetensors files in the directory that driver and validator share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from covey_exchange import tensorfile
from covey_exchange.proto.driver_pb2 import Tensors
from covey_exchange.tensorfile import TensorFileInvalid
from numpy.typing import NDArray

from covey_trainer.errors import HandoverError
from covey_trainer.executor import Parameters

_REMEDY = "Driver and validator must mount the same directory and be of the same version."


class Handover:
    """Writes this process's files (of which it keeps one for each kind) and reads the other side's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._written: dict[str, Path] = {}
        for leftover in directory.glob("driver-*"):
            leftover.unlink()

    def write(self, kind: str, round_number: int, parameters: Parameters) -> Tensors:
        """Store a parameter set atomically and remove the last one of this kind.

        Args:
            kind: part of the file's name, for example `delta`.
            round_number: part of the file's name.
            parameters: name -> float32 array.
        """
        path = self._directory / f"driver-{kind}-{round_number}.safetensors"
        partial = path.with_suffix(".partial")
        digest = tensorfile.write(partial, parameters, hashed=True)
        partial.replace(path)
        last = self._written.get(kind)
        if last is not None and last != path:
            last.unlink(missing_ok=True)
        self._written[kind] = path
        return Tensors(file=path.name, digest=digest)

    def read(self, tensors: Tensors) -> Parameters:
        """Load a parameter set that the validator wrote.

        Raises:
            HandoverError: as `load`, or not float32 tensors.
        """
        arrays = self.load(tensors)
        for name, array in arrays.items():
            if array.dtype != np.float32:
                raise HandoverError(f'Tensor "{name}" of "{tensors.file}" is {array.dtype}, not float32.', _REMEDY)
        return arrays

    def load(self, tensors: Tensors) -> dict[str, NDArray[Any]]:
        """Load arrays that the validator wrote.

        Raises:
            HandoverError: no such file inside the directory, or another content than announced.
        """
        if tensors.file != Path(tensors.file).name or tensors.file in ("", ".", ".."):
            raise HandoverError(f'"{tensors.file}" is not a plain file name.', _REMEDY)
        path = self._directory / tensors.file
        try:
            with path.open("rb", buffering=0) as stream:
                arrays, _, digest = tensorfile.read_from(stream, os.fstat(stream.fileno()).st_size, hashed=True)
        except OSError as error:
            raise HandoverError(f'"{tensors.file}" cannot be read: {error.strerror}.', _REMEDY) from error
        except TensorFileInvalid as error:
            raise HandoverError(f'"{tensors.file}" is not a safetensors file: {error}.', _REMEDY) from error
        if digest != tensors.digest:
            raise HandoverError(f'"{tensors.file}" has not the announced content.', _REMEDY)
        return dict(arrays)

    def close(self) -> None:
        """Remove the files that this process wrote."""
        for path in self._written.values():
            path.unlink(missing_ok=True)
        self._written.clear()
