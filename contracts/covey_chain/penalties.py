"""The ledger of a task's penalties as the contracts read it: `contracts/src/Penalties.sol`.

One entry of 26 bytes for every member that was ever penalised, in ascending order of places: uint8 place, uint8 flags
(1 removed, 2 an appeal protects what is held), uint96 held, uint96 slashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from eth_utils.crypto import keccak

from covey_chain.types import ZERO_HASH, Penalty

ENTRY_BYTES = 26
_REMOVED, _APPEALING = 1, 2
_AMOUNT_BYTES = 12


class PenaltiesInvalid(ValueError):
    """No ledger of penalties; says why."""


def encode(penalties: Sequence[Penalty]) -> bytes:
    """The packed ledger.

    Raises:
        PenaltiesInvalid: not strictly ascending by place, or a number that does not fit its field.
    """
    _require_ascending([penalty.place for penalty in penalties])
    return b"".join(map(_packed, penalties))


def decode(ledger: bytes) -> list[Penalty]:
    """The entries of a packed ledger.

    Raises:
        PenaltiesInvalid: a cut entry, places that do not ascend, or unknown flags.
    """
    if len(ledger) % ENTRY_BYTES:
        raise PenaltiesInvalid(f"{len(ledger)} bytes are no whole number of entries of {ENTRY_BYTES} bytes")
    penalties = [_unpacked(ledger[i : i + ENTRY_BYTES]) for i in range(0, len(ledger), ENTRY_BYTES)]
    _require_ascending([penalty.place for penalty in penalties])
    return penalties


def digest(ledger: bytes) -> bytes:
    """What a result says of a packed ledger: keccak256, and 32 zero bytes for an empty one."""
    return bytes(keccak(ledger)) if ledger else ZERO_HASH


def _packed(penalty: Penalty) -> bytes:
    flags = _REMOVED * penalty.removed | _APPEALING * penalty.appealing
    amounts = (penalty.held, penalty.slashed)
    try:
        return bytes([penalty.place, flags]) + b"".join(n.to_bytes(_AMOUNT_BYTES, "big") for n in amounts)
    except (ValueError, OverflowError) as error:
        raise PenaltiesInvalid(f"{penalty} does not fit: {error}") from error


def _unpacked(entry: bytes) -> Penalty:
    place, flags = entry[0], entry[1]
    if flags & ~(_REMOVED | _APPEALING):
        raise PenaltiesInvalid(f"place {place} has unknown flags {flags}")
    held, slashed = (int.from_bytes(part, "big") for part in (entry[2:14], entry[14:]))
    return Penalty(place, bool(flags & _REMOVED), bool(flags & _APPEALING), held, slashed)


def _require_ascending(places: Sequence[int]) -> None:
    for before, after in pairwise(places):
        if after <= before:
            raise PenaltiesInvalid(f"place {after} comes after place {before}: places ascend, each once")
