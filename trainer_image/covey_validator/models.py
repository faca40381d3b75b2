"""Models on disk: now and then a whole one, in between only what each round changed.

    <digest>.safetensors    a whole model
    <digest>.patch          where it differs from another one (`covey_exchange.patch`), which the metadata names

A round changes a few percent of the elements, so writing all of them would cost more than all else that a site does.
Patches are used up to the size of a model; then a whole one is written. What is read back is held to its digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import cast

from covey_exchange import patch, tensorfile
from covey_exchange.manifest import Array, model_digest
from covey_exchange.patch import Patch, PatchInvalid
from covey_exchange.tensorfile import TensorFileInvalid

from covey_validator import durable, tensors
from covey_validator.steps import Step
from covey_validator.tensors import TensorsInvalid

_PARENT = "parent"


@dataclass(frozen=True)
class _Kept:
    parent: bytes | None  # None: whole
    patch_bytes: int  # of it and the patches before


class Models:
    """The models in one directory; threads may share it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict[bytes, _Kept] = {}
        self._lock = RLock()

    def __contains__(self, digest: bytes) -> bool:
        with self._lock:
            return self._look(digest) is not None

    def put(self, digest: bytes, parameters: Mapping[str, Array], step: Step | None = None) -> None:
        """Keep a model, as a step from another one if that is less to write; on disk when this returns."""
        with self._lock:
            if self._look(digest) is not None:
                return
            parent = self._look(step.parent) if step is not None else None
            if step is None or parent is None or not step.pays(parent.patch_bytes, parameters):
                tensors.write_file(self._whole(digest), parameters)
                self._kept[digest] = _Kept(None, 0)
                return
            metadata = {_PARENT: step.parent.hex()}
            durable.write_with(self._patch(digest), lambda path: _write(path, step.changes, metadata))
            self._kept[digest] = _Kept(step.parent, parent.patch_bytes + step.bytes)

    def get(self, digest: bytes) -> dict[str, Array]:
        """A model that was kept, bit for bit.

        Raises:
            FileNotFoundError: it is not here.
            TensorsInvalid: the disk has other bits than were written.
        """
        whole, *steps = self._files(digest) or [self._whole(digest)]
        source = f"model 0x{digest.hex()}"
        parameters = tensors.parse(whole.read_bytes(), None, source)
        try:
            for path in steps:
                parameters = patch.apply(parameters, cast(Patch, tensorfile.read(path)[0]))
        except (PatchInvalid, TensorFileInvalid) as error:
            raise TensorsInvalid(f"{source}: {error}") from error
        if steps and model_digest(parameters) != digest:
            raise TensorsInvalid(f"{source}: the patches on disk make another one")
        return parameters

    def file(self, digest: bytes) -> bytes | None:
        """The safetensors file of a model, or None."""
        files = self._files(digest)
        try:
            if len(files) < 2:
                return files[0].read_bytes() if files else None
            return tensorfile.dumps(self.get(digest))
        except FileNotFoundError:
            return None  # removed meanwhile

    def keep(self, digests: set[bytes]) -> None:
        """Remove all models but these, and what they are made of."""
        with self._lock:
            needed = {path for digest in digests for path in self._files(digest)}
            for path in self._folder.iterdir():
                if path not in needed:
                    path.unlink()
            self._kept = {digest: kept for digest, kept in self._kept.items() if self._path(digest, kept) in needed}

    def _files(self, digest: bytes) -> list[Path]:
        """A whole model and the patches that make this one of it; empty if it is not here."""
        found: list[Path] = []
        with self._lock:
            at: bytes | None = digest
            while at is not None and (kept := self._look(at)) is not None:
                found.append(self._path(at, kept))
                at = kept.parent
        return found[::-1]

    def _look(self, digest: bytes) -> _Kept | None:
        """What is here of a model, if all that it is made of is here too."""
        kept = self._kept.get(digest)
        if kept is not None:
            return kept
        if self._whole(digest).exists():
            kept = _Kept(None, 0)
        elif self._patch(digest).exists():
            try:
                changes, metadata = tensorfile.read(self._patch(digest))
                step = Step(bytes.fromhex(metadata[_PARENT]), cast(Patch, changes))
            except (TensorFileInvalid, KeyError, ValueError) as error:
                raise TensorsInvalid(f"{self._patch(digest)}: {error}") from error
            parent = self._look(step.parent)
            kept = None if parent is None else _Kept(step.parent, parent.patch_bytes + step.bytes)
        if kept is not None:
            self._kept[digest] = kept
        return kept

    def _path(self, digest: bytes, kept: _Kept) -> Path:
        return self._whole(digest) if kept.parent is None else self._patch(digest)

    def _whole(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}.safetensors"

    def _patch(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}.patch"


def _write(path: Path, changes: Patch, metadata: Mapping[str, str]) -> None:
    tensorfile.write(path, changes, metadata)
