"""Settlement by medians, for a task whose quorum is gone (ADR 0013): what `contracts/src/Fallback.sol` reads and checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eth_abi import encode
from eth_utils.crypto import keccak

from covey_chain.types import FallbackState

AMOUNT_BYTES = 16


def pack(rewards: Sequence[int]) -> bytes:
    """Cumulative rewards in base units, in the order of places, as they are revealed.

    Raises:
        OverflowError: an amount that is negative or not below 2^128.
    """
    return b"".join(amount.to_bytes(AMOUNT_BYTES, "big") for amount in rewards)


def unpack(packed: bytes) -> tuple[int, ...]:
    """What `pack` has packed."""
    starts = range(0, len(packed), AMOUNT_BYTES)
    return tuple(int.from_bytes(packed[start : start + AMOUNT_BYTES], "big") for start in starts)


def commitment(chain_id: int, contract: str, task_id: bytes, site: str, rewards: Sequence[int], salt: bytes) -> bytes:
    """What a site commits to: `digestOf` of the contract, made here so that no node sees the vector early."""
    kinds = ["uint256", "address", "bytes32", "address", "bytes32", "bytes32"]
    return bytes(keccak(encode(kinds, [chain_id, contract, task_id, site, keccak(pack(rewards)), salt])))


def medians(state: FallbackState) -> tuple[int, ...]:
    """For each place the smallest revealed amount such that at most half of the revealed stake is above it.

    Raises:
        ValueError: nobody who counts has revealed anything.
    """
    heard = {site: rewards for site, rewards in state.revealed.items() if site in state.active}
    if not heard:
        raise ValueError("there is no median of nothing")
    weights = {site: state.stakes[site] for site in heard}
    return tuple(_median({site: heard[site][i] for site in heard}, weights) for i in range(len(state.stakes)))


def _median(amounts: Mapping[str, int], stakes: Mapping[str, int]) -> int:
    total, seen = sum(stakes.values()), 0
    for site in sorted(amounts, key=lambda site: amounts[site]):
        seen += stakes[site]
        if 2 * seen >= total:
            return amounts[site]
    raise AssertionError("the stake of all is more than half of it")
