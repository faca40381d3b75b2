"""Settlement by medians, for a task whose quorum is gone (ADR 0013), as `contracts/src/Fallback.sol` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from eth_abi import encode
from eth_utils.crypto import keccak

AMOUNT_BYTES = 16


class FallbackPhase(IntEnum):
    """Where the settlement by medians of a task stands (`Fallback.sol`)."""

    CLOSED = 0
    WAITING = 1
    COMMITTING = 2
    REVEALING = 3
    SETTLING = 4


@dataclass(frozen=True)
class FallbackState:
    """The settlement by medians of a started or finished task (ADR 0013).

    Attributes:
        deadline: of the task, in seconds since 1970; the fallback begins with it.
        window: seconds to commit, and as many to reveal.
        open: whether the task has neither ended nor expired.
        stakes: participant -> snapshotted stake, in the order of places.
        active: those whose stake counts; until somebody has committed, who it would be now.
        committed: participant -> commitment.
        revealed: participant -> amounts for all, in the order of places; also of those who count no more.
        settled_block: where the medians were settled; None if they have not been.
    """

    deadline: int
    window: int
    open: bool
    stakes: Mapping[str, int]
    active: frozenset[str]
    committed: Mapping[str, bytes]
    revealed: Mapping[str, tuple[int, ...]]
    settled_block: int | None

    def phase(self, now: int) -> FallbackPhase:
        """What can be done at a time in seconds since 1970, as the contract says it."""
        if not self.open:
            return FallbackPhase.CLOSED
        if now < self.deadline:
            return FallbackPhase.WAITING
        if now < self.deadline + self.window:
            return FallbackPhase.COMMITTING
        if not self.committed:
            return FallbackPhase.CLOSED
        if now < self.deadline + 2 * self.window:
            return FallbackPhase.REVEALING
        heard = self.active & self.revealed.keys()
        enough = 2 * self._stake(heard) > self._stake(self.active)
        return FallbackPhase.SETTLING if enough else FallbackPhase.CLOSED

    def _stake(self, sites: frozenset[str]) -> int:
        return sum(self.stakes[site] for site in sites)


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
