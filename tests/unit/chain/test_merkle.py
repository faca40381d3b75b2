import pytest
from covey_chain.merkle import RewardTree, leaf
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

TASK = b"\x05" * 32
amounts = st.dictionaries(st.integers(1, 2**160 - 1), st.integers(0, 2**200), min_size=1, max_size=20)


def reaches(tree: RewardTree, member: str, amount: int, proof: list[bytes]) -> bool:
    """OpenZeppelin's `MerkleProof.verify`."""
    node = leaf(TASK, member, amount)
    for sibling in proof:
        node = keccak(min(node, sibling) + max(node, sibling))
    return bytes(node) == tree.root


@given(amounts)
def test_every_member_can_prove_its_reward_and_no_other(found: dict[int, int]) -> None:
    rewards = {f"0x{address:040x}": amount for address, amount in found.items()}
    tree = RewardTree(rewards, TASK)
    for member, amount in rewards.items():
        assert reaches(tree, member, amount, tree.proof(member))
        assert not reaches(tree, member, amount + 1, tree.proof(member))


@given(amounts)
def test_the_root_does_not_depend_on_the_order_of_members(found: dict[int, int]) -> None:
    rewards = {f"0x{address:040x}": amount for address, amount in found.items()}
    assert RewardTree(rewards, TASK).root == RewardTree(dict(reversed(rewards.items())), TASK).root


def test_a_root_is_worth_nothing_for_another_task() -> None:
    rewards = {"0x" + "11" * 20: 7}
    assert RewardTree(rewards, TASK).root != RewardTree(rewards, b"\x06" * 32).root


def test_a_tree_without_members_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        RewardTree({}, TASK)


def test_who_is_not_in_the_tree_has_no_proof() -> None:
    with pytest.raises(KeyError):
        RewardTree({"0x" + "11" * 20: 7}, TASK).proof("0x" + "22" * 20)
