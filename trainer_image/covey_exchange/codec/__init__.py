"""From a pseudo-gradient to canonical bytes and back; one module a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from covey_exchange.codec.dense import Dense
from covey_exchange.codec.dgc import Dgc
from covey_exchange.codec.errors import (
    CodecError,
    DecodeError,
    InvalidSpec,
    NonCanonical,
    NonFinite,
    NonFiniteUpdate,
    PositionOutOfRange,
    ResidualCorrupt,
    ResidualUnsettled,
    TrailingBytes,
    WrongLength,
)
from covey_exchange.codec.int8 import Int8
from covey_exchange.codec.kernels import NUMPY, Kernels, for_model
from covey_exchange.codec.residual import Residual
from covey_exchange.codec.sparseloco import SparseLoCo
from covey_exchange.codec.spec import DENSE, DGC, SPARSELOCO, CodecSpec, Feedback
from covey_exchange.codec.update import Sparse, Update, densify
from covey_exchange.manifest import Array, Manifest

__all__ = [
    "DENSE",
    "DGC",
    "NUMPY",
    "SPARSELOCO",
    "Codec",
    "CodecError",
    "CodecSpec",
    "DecodeError",
    "Feedback",
    "InvalidSpec",
    "Kernels",
    "NonCanonical",
    "NonFinite",
    "NonFiniteUpdate",
    "PositionOutOfRange",
    "Residual",
    "ResidualCorrupt",
    "ResidualUnsettled",
    "Sparse",
    "TrailingBytes",
    "Update",
    "WrongLength",
    "codec_for",
    "decode",
    "densify",
    "encode",
    "for_model",
    "max_bytes",
]


class Codec(Protocol):
    """A pure, canonical map between tensors and bytes, for one model."""

    @property
    def max_bytes(self) -> int:
        """The length that no update exceeds."""
        ...

    def compress(self, values: Mapping[str, Array]) -> tuple[bytes, Update]:
        """Bytes of finite float32 tensors, and the update that they decode to."""
        ...

    def decode(self, payload: bytes | memoryview, site: str) -> Update:
        """The update, or a `DecodeError` that names the site; never anything else."""
        ...


def codec_for(spec: CodecSpec, manifest: Manifest, kernels: Kernels | None = None) -> Codec:
    """The codec that a spec names, for one model.

    Args:
        spec: of one round (`CodecSpec.at_round`).
        manifest: names and shapes of the model.
        kernels: implementation of the loops; left out, the one that suits the model's size.
    """
    if spec.codec == DENSE:
        return Int8(manifest) if spec.value_bits == 8 else Dense(manifest, "<f2" if spec.value_bits == 16 else "<f4")
    kind = Dgc if spec.codec == DGC else SparseLoCo
    return kind(spec, manifest, kernels or for_model(manifest.parameters))


def max_bytes(spec: CodecSpec, manifest: Manifest) -> int:
    """The length that no update of a task exceeds; in a warm-up the first rounds' are the longest."""
    return codec_for(spec.at_round(1), manifest, NUMPY).max_bytes


def encode(
    update: Mapping[str, Array],
    residual: Residual,
    spec: CodecSpec,
    manifest: Manifest,
    kernels: Kernels | None = None,
    *,
    owned: bool = False,
) -> bytes:
    """Compress one site's pseudo-gradient together with its error feedback.

    Args:
        update: tensor name -> float32 pseudo-gradient in the manifest's shape.
        residual: error feedback; takes the update in, and stages what is sent until `residual.settle(accepted)`.
        spec: codec and parameters, of one round (`CodecSpec.at_round`).
        manifest: names and shapes of the model.
        kernels: implementation of the loops; left out, the one that suits the model's size.
        owned: whether the update's arrays may be written over (`Residual.absorb`).

    Returns:
        The canonical bytes: one valid encoding of each update.

    Raises:
        ManifestError: names, shapes or dtypes differ from the manifest; names the tensor.
        NonFiniteUpdate: NaN or infinity; names the tensor and the first index.
        ResidualUnsettled: the previous update has not been settled.
        Whatever is raised, the residual is as it was.
    """
    kernels = kernels or for_model(manifest.parameters)
    residual.absorb(update, spec.feedback, kernels, owned=owned)
    payload, sent = codec_for(spec, manifest, kernels).compress(residual.values)
    residual.stage(sent)
    return payload


def decode(payload: bytes | memoryview, spec: CodecSpec, manifest: Manifest, site: str) -> Update:
    """The update behind a payload: tensor name -> `Sparse` or dense float32 array.

    Args:
        payload: untrusted bytes; their length is checked against the manifest before anything is allocated.
        spec: the task's codec, of one round (`CodecSpec.at_round`).
        manifest: names and shapes of the model.
        site: owner address of the sender, for errors.

    Raises:
        DecodeError: by kind `WrongLength`, `TrailingBytes`, `PositionOutOfRange`, `NonFinite`, `NonCanonical`.
    """
    return codec_for(spec, manifest).decode(payload, site)
