"""The models that the validator names: a whole one, and the patches that make another of it."""

from __future__ import annotations

from collections.abc import Sequence

from covey_exchange import patch
from covey_exchange.manifest import Manifest, ManifestError
from covey_exchange.patch import PatchInvalid
from covey_exchange.proto.driver_pb2 import Tensors

from covey_trainer.errors import HandoverError
from covey_trainer.executor import Parameters
from covey_trainer.tensors import Handover

_REMEDY = "Use images of one version."


class Models:
    """Reads models, and keeps the last one that was asked for: the next differs from it in one patch."""

    def __init__(self, handover: Handover, manifest: Manifest) -> None:
        self._handover = handover
        self._manifest = manifest
        self._held: tuple[list[bytes], Parameters] | None = None

    def read(self, whole: Tensors, patches: Sequence[Tensors]) -> Parameters:
        """A model.

        Raises:
            HandoverError: files that cannot be used, or that do not fit the model or each other.
        """
        names = [tensors.digest for tensors in (whole, *patches)]
        if self._held is not None and names[: len(self._held[0])] == self._held[0]:
            known, model = self._held
        else:
            known, model = names[:1], self._whole(whole)
        for tensors in patches[len(known) - 1 :]:
            model = self.patched(model, tensors)
        self._held = names, model
        return model

    def patched(self, model: Parameters, tensors: Tensors) -> Parameters:
        """Another model with a patch.

        Raises:
            HandoverError: a file that cannot be used, or that does not fit the model.
        """
        try:
            return patch.apply(model, self._handover.load(tensors))
        except PatchInvalid as error:
            raise HandoverError(f"{tensors.file}: {error}.", _REMEDY) from error

    def _whole(self, tensors: Tensors) -> Parameters:
        arrays = self._handover.read(tensors)
        try:
            self._manifest.check(arrays)
        except ManifestError as error:
            raise HandoverError(f"{tensors.file}: {error}.", _REMEDY) from error
        return arrays
