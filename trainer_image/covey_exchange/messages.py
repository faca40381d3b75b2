"""Signed structures of `covey_chain.types` to and from their wire form."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from covey_chain.types import Proposal, RollCall, RoundResult, ScoreCommit, ScoreReveal, Signable, UpdateHeader, Vote
from eth_utils.address import to_canonical_address, to_checksum_address

from covey_exchange.errors import MalformedMessage
from covey_exchange.proto import wire_pb2

ATTACHMENT_BYTES_MAX = 2**18
_ADDRESS_BYTES, _HASH_BYTES, _SIGNATURE_BYTES, _UINT8_MAX = 20, 32, 65, 255
_BYTE_FIELDS = ("step", "kind")
_KINDS: dict[str, type[Signable]] = {
    "update_header": UpdateHeader,
    "proposal": Proposal,
    "vote": Vote,
    "score_commit": ScoreCommit,
    "score_reveal": ScoreReveal,
    "round_result": RoundResult,
    "roll_call": RollCall,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True)
class Envelope:
    """A signed structure as it travels; nothing about it has been verified.

    Attributes:
        body: what is signed.
        signature: 65 bytes by the session key of the body's site.
        attachment: the bytes behind a Proposal's `value`, a ScoreReveal's `scores_hash` or a RollCall's `evidence_hash`
            (keccak256); else empty.
    """

    body: Signable
    signature: bytes
    attachment: bytes = b""


def to_wire(envelope: Envelope) -> wire_pb2.Signed:
    """The protobuf form."""
    wire = wire_pb2.Signed(signature=envelope.signature, attachment=envelope.attachment)
    body = getattr(wire, _NAMES[type(envelope.body)])
    body.SetInParent()
    for item in fields(envelope.body):
        value = getattr(envelope.body, item.name)
        if item.name == "site":
            value = _canonical(value)
        elif item.name == "total_reward":
            value = value.to_bytes(_HASH_BYTES, "big")
        setattr(body, item.name, value)
    return wire


def from_wire(wire: wire_pb2.Signed) -> Envelope:
    """The typed form of a message that a peer sent.

    Raises:
        MalformedMessage: no body, or a field of the wrong length or range; names the field.
    """
    name = wire.WhichOneof("body")
    if name is None:
        raise MalformedMessage("no body")
    if len(wire.signature) != _SIGNATURE_BYTES:
        raise MalformedMessage(f"{name}.signature has {len(wire.signature)} bytes, not {_SIGNATURE_BYTES}")
    if len(wire.attachment) > ATTACHMENT_BYTES_MAX:
        raise MalformedMessage(f"{name}.attachment has {len(wire.attachment)} bytes, at most {ATTACHMENT_BYTES_MAX}")
    body = getattr(wire, name)
    kind = _KINDS[name]
    values = {item.name: _field(name, item.name, getattr(body, item.name)) for item in fields(kind)}
    return Envelope(kind(**values), wire.signature, wire.attachment)


def _field(message: str, name: str, value: Any) -> Any:  # noqa: ANN401 (fields are of several types)
    if isinstance(value, bytes):
        length = _ADDRESS_BYTES if name == "site" else _HASH_BYTES
        if len(value) != length:
            raise MalformedMessage(f"{message}.{name} has {len(value)} bytes, not {length}")
        if name == "site":
            return _checksummed(value)
        return int.from_bytes(value, "big") if name == "total_reward" else value
    if name in _BYTE_FIELDS and isinstance(value, int) and value > _UINT8_MAX:
        raise MalformedMessage(f"{message}.{name} is {value}, at most {_UINT8_MAX}")
    return value


# Every message names one of a few sites, and each conversion hashes: it would cost as much as the rest of the message.
@lru_cache(maxsize=1024)
def _checksummed(address: bytes) -> str:
    return str(to_checksum_address(address))


@lru_cache(maxsize=1024)
def _canonical(address: str) -> bytes:
    return bytes(to_canonical_address(address))
