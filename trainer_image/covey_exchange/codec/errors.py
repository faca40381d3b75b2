"""What can go wrong between an update and its bytes."""

from __future__ import annotations


class CodecError(Exception):
    """Base of all codec errors."""


class InvalidSpec(CodecError, ValueError):
    """A codec that does not exist or a parameter out of its range; names the field."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"compression.{field}: {problem}")
        self.field = field


class NonFiniteUpdate(CodecError, ValueError):
    """The local update, or the residual after adding it, has NaN or infinity."""

    def __init__(self, tensor: str, index: int) -> None:
        super().__init__(
            f'tensor "{tensor}": element {index} is not finite; lower the learning rate or clip the gradients'
        )
        self.tensor = tensor
        self.index = index


class ResidualUnsettled(CodecError, RuntimeError):
    """`encode` and `settle` must alternate."""


class ResidualCorrupt(CodecError, ValueError):
    """A saved residual that cannot be read or belongs to another model."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; remove the file to start with an empty residual")
        self.path = path


class DecodeError(CodecError, ValueError):
    """Bytes that are no update of the agreed model and codec; names the site and, where one can be told, the tensor."""

    def __init__(self, site: str, tensor: str | None, problem: str) -> None:
        where = "update" if tensor is None else f'tensor "{tensor}"'
        super().__init__(f"{site}: {where}: {problem}")
        self.site = site
        self.tensor = tensor


class WrongLength(DecodeError):
    """Fewer bytes than the update must have."""


class TrailingBytes(DecodeError):
    """More bytes than the update can have."""


class PositionOutOfRange(DecodeError):
    """A kept position lies beyond the end of its chunk."""


class NonFinite(DecodeError):
    """A level or value is NaN or infinite."""


class NonCanonical(DecodeError):
    """Decodable, but not the one byte string that encodes this update."""
