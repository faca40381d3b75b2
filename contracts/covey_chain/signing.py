"""EIP-712 signatures of everything that a site signs, with session keys (secp256k1)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache, lru_cache

from eth_abi import encode
from eth_account import Account
from eth_keys import keys
from eth_keys.datatypes import PrivateKey
from eth_keys.exceptions import BadSignature
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from covey_chain.errors import BadWalletKey
from covey_chain.types import (
    AuditVerdict,
    Proposal,
    RollCall,
    RoundResult,
    ScoreCommit,
    ScoreReveal,
    Statement,
    UpdateHeader,
    Vote,
)

_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"

# Member types in the order of the dataclass fields; the contracts hash the same strings.
_TYPES: dict[type, tuple[str, ...]] = {
    UpdateHeader: ("bytes32", "uint64", "uint32", "address", "bytes32", "bytes32", "uint64", "bytes32", "uint64"),
    Proposal: ("bytes32", "uint64", "uint8", "uint32", "int32", "bytes32", "address"),
    Vote: ("bytes32", "uint64", "uint8", "uint32", "uint8", "bytes32", "address"),
    ScoreCommit: ("bytes32", "uint64", "address", "bytes32"),
    ScoreReveal: ("bytes32", "uint64", "address", "bytes32", "bytes32"),
    RoundResult: ("bytes32", "uint64", "uint32", *("bytes32",) * 5, "uint256", "bool", "bool"),
    RollCall: ("bytes32", "uint32", "address", "bytes32"),
    AuditVerdict: ("bytes32", "address", "uint32", "bool", "bytes32"),
}


class SignatureInvalid(ValueError):
    """Not a canonical signature: 65 bytes, low s (EIP-2), v 27 or 28."""


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


@cache
def type_string(kind: type) -> str:
    """The EIP-712 `encodeType` string of a signed structure."""
    members = ",".join(f"{t} {_camel(f.name)}" for t, f in zip(_TYPES[kind], fields(kind), strict=True))
    return f"{kind.__name__}({members})"


@dataclass(frozen=True)
class Domain:
    """EIP-712 domain: signatures of one chain and one set of contracts are worth nothing at another."""

    chain_id: int
    contract: str


@cache
def _separator(domain: Domain) -> bytes:
    return keccak(
        encode(
            ["bytes32", "bytes32", "bytes32", "uint256", "address"],
            [keccak(text=_DOMAIN_TYPE), keccak(text="Covey"), keccak(text="1"), domain.chain_id, domain.contract],
        )
    )


@cache
def _type_hash(kind: type) -> bytes:
    return keccak(text=type_string(kind))


def struct_hash(value: Statement) -> bytes:
    """`hashStruct` of EIP-712, 32 bytes."""
    kind: type = type(value)
    members = [getattr(value, f.name) for f in fields(kind)]
    return bytes(keccak(encode(["bytes32", *_TYPES[kind]], [_type_hash(kind), *members])))


@lru_cache(maxsize=1024)  # who gets a message needs it to find the signer, and to name the message
def digest(domain: Domain, value: Statement) -> bytes:
    """The 32 bytes that are signed."""
    return keccak(b"\x19\x01" + _separator(domain) + struct_hash(value))


def private_key(text: str) -> bytes:
    """A private key from 0x-hex.

    Raises:
        BadWalletKey: not 32 bytes of hex, or not a number of the curve.
    """
    stripped = text.strip()
    body = stripped.removeprefix("0x")
    if len(body) != 64:
        raise BadWalletKey(f"{len(body)} digits after 0x")
    try:
        raw = bytes.fromhex(body)
        keys.PrivateKey(raw).public_key  # noqa: B018 - computing it checks the range
    except Exception as error:
        raise BadWalletKey(type(error).__name__) from None
    return raw


def address_of(key: bytes) -> str:
    """The address of a private key."""
    return to_checksum_address(keys.PrivateKey(key).public_key.to_canonical_address())


def new_key() -> bytes:
    """A fresh private key from the system's randomness, 32 bytes."""
    return bytes(Account.create().key)


def sign(domain: Domain, value: Statement, key: bytes) -> bytes:
    """Sign with a session key: 65 bytes r, s, v (27 or 28); deterministic (RFC 6979)."""
    signature = _private(key).sign_msg_hash(digest(domain, value))
    return b"".join((signature.r.to_bytes(32, "big"), signature.s.to_bytes(32, "big"), bytes([27 + signature.v])))


@lru_cache(maxsize=8)  # a process has one or two, and each object computes its public key anew
def _private(key: bytes) -> PrivateKey:
    return PrivateKey(key)


@lru_cache(maxsize=1024)  # several neighbours bring the same message, and a result's signatures are looked at again
def recover(domain: Domain, value: Statement, signature: bytes) -> str:
    """The checksum address that signed.

    Raises:
        SignatureInvalid: wrong length, high s, other v, or no key fits.
    """
    if len(signature) != 65 or signature[64] not in (27, 28):
        raise SignatureInvalid("a signature is 65 bytes: r, s and v of 27 or 28")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    if s > _HALF_ORDER:
        raise SignatureInvalid("the signature has a high s (EIP-2)")
    try:
        public = keys.Signature(vrs=(signature[64] - 27, r, s)).recover_public_key_from_msg_hash(digest(domain, value))
    except (BadSignature, ValueError) as error:
        raise SignatureInvalid(f"no key fits the signature: {error}") from error
    return to_checksum_address(public.to_canonical_address())
