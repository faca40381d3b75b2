"""The tree of cumulative rewards (OpenZeppelin MerkleProof: sorted pairs, doubly hashed leaves)."""

from __future__ import annotations

from collections.abc import Mapping

from eth_abi import encode
from eth_utils.crypto import keccak


def leaf(task_id: bytes, member: str, cumulative: int) -> bytes:
    """Hash of one member's entry, 32 bytes."""
    return keccak(keccak(encode(["bytes32", "address", "uint256"], [task_id, member, cumulative])))


def _parent(a: bytes, b: bytes) -> bytes:
    return keccak(min(a, b) + max(a, b))


class RewardTree:
    """Cumulative rewards of a task.

    Args:
        rewards: member address -> cumulative reward in base units; at least one.
        task_id: 32 bytes; part of every leaf, so that no proof is worth anything for another task.
    """

    def __init__(self, rewards: Mapping[str, int], task_id: bytes) -> None:
        if not rewards:
            raise ValueError("a reward tree needs at least one member")
        self._leaves = {member: leaf(task_id, member, rewards[member]) for member in rewards}
        self._layers = [sorted(self._leaves.values())]
        while len(self._layers[-1]) > 1:
            below = self._layers[-1]
            pairs = [below[i : i + 2] for i in range(0, len(below), 2)]
            self._layers.append([_parent(*pair) if len(pair) == 2 else pair[0] for pair in pairs])

    @property
    def root(self) -> bytes:
        """The 32 bytes that go on chain."""
        return self._layers[-1][0]

    def proof(self, member: str) -> list[bytes]:
        """Siblings from the member's leaf up to the root.

        Raises:
            KeyError: the member has no leaf.
        """
        index = self._layers[0].index(self._leaves[member])
        path = []
        for layer in self._layers[:-1]:
            sibling = index ^ 1
            if sibling < len(layer):
                path.append(layer[sibling])
            index //= 2
        return path
