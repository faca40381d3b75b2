"""From a pseudo-gradient to canonical bytes and back; one module a codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from covey_exchange.codec.dense import Dense
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
from covey_exchange.codec.residual import Residual
from covey_exchange.codec.sparseloco import SparseLoCo
from covey_exchange.codec.spec import DENSE, SPARSELOCO, CodecSpec
from covey_exchange.codec.update import Sparse, Update, densify
from covey_exchange.manifest import Array, Manifest

__all__ = [
    "DENSE",
    "SPARSELOCO",
    "Codec",
    "CodecError",
    "CodecSpec",
    "DecodeError",
    "InvalidSpec",
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

    def decode(self, payload: bytes, site: str) -> Update:
        """The update, or a `DecodeError` that names the site; never anything else."""
        ...


def codec_for(spec: CodecSpec, manifest: Manifest) -> Codec:
    """The codec that a spec names, for one model."""
    return SparseLoCo(spec, manifest) if spec.codec == SPARSELOCO else Dense(manifest)


def encode(update: Mapping[str, Array], residual: Residual, spec: CodecSpec, manifest: Manifest) -> bytes:
    """Compress one site's pseudo-gradient together with its error feedback (SparseLoCo, arXiv:2508.15706).

    Args:
        update: tensor name -> float32 pseudo-gradient in the manifest's shape.
        residual: error feedback; takes the update in, and stages what is sent until `residual.settle(accepted)`.
        spec: codec and density.
        manifest: names and shapes of the model.

    Returns:
        The canonical bytes: one valid encoding of each update.

    Raises:
        ManifestError: names, shapes or dtypes differ from the manifest; names the tensor.
        NonFiniteUpdate: NaN or infinity; names the tensor and the first index.
        ResidualUnsettled: the previous update has not been settled.
        Whatever is raised, the residual is as it was.
    """
    values = residual.plus(update)
    payload, sent = codec_for(spec, manifest).compress(values)
    residual.stage(values, sent)
    return payload


def decode(payload: bytes, spec: CodecSpec, manifest: Manifest, site: str) -> Update:
    """The update behind a payload: tensor name -> `Sparse` or dense float32 array.

    Args:
        payload: untrusted bytes; their length is checked against the manifest before anything is allocated.
        spec: the task's codec.
        manifest: names and shapes of the model.
        site: owner address of the sender, for errors.

    Raises:
        DecodeError: by kind `WrongLength`, `TrailingBytes`, `PositionOutOfRange`, `NonFinite`, `NonCanonical`.
    """
    return codec_for(spec, manifest).decode(payload, site)
