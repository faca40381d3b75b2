from dataclasses import replace

import pytest
from covey_chain import signing
from covey_chain.errors import BadWalletKey
from covey_chain.merkle import RewardTree, leaf
from covey_chain.types import Vote
from hypothesis import given
from hypothesis import strategies as st

DOMAIN = signing.Domain(31337, "0x" + "11" * 20)
VOTE = Vote(b"\x01" * 32, 3, 0, 0, 1, b"\x02" * 32, "0x" + "22" * 20)


def test_a_signature_recovers_to_its_signer() -> None:
    key = signing.new_key()
    assert signing.recover(DOMAIN, VOTE, signing.sign(DOMAIN, VOTE, key)) == signing.address_of(key)


def test_a_signature_is_worth_nothing_for_another_value_or_domain() -> None:
    key = signing.new_key()
    signature = signing.sign(DOMAIN, VOTE, key)
    assert signing.recover(DOMAIN, replace(VOTE, view=1), signature) != signing.address_of(key)
    assert signing.recover(replace(DOMAIN, chain_id=1), VOTE, signature) != signing.address_of(key)


def test_signing_again_gives_the_same_bytes() -> None:
    key = signing.new_key()
    assert signing.sign(DOMAIN, VOTE, key) == signing.sign(DOMAIN, VOTE, key)


@pytest.mark.parametrize("bad", [b"", bytes(64), bytes(65), b"\xff" * 64 + b"\x1b"])
def test_what_is_not_a_signature_is_refused(bad: bytes) -> None:
    with pytest.raises(signing.SignatureInvalid):
        signing.recover(DOMAIN, VOTE, bad)


@pytest.mark.parametrize("bad", ["", "0x12", "0x" + "zz" * 32, "0x" + "00" * 32, "0x" + "ff" * 32])
def test_what_is_not_a_key_is_refused(bad: str) -> None:
    with pytest.raises(BadWalletKey):
        signing.private_key(bad)


@given(st.dictionaries(st.integers(1, 2**160 - 1), st.integers(0, 2**200), min_size=1, max_size=20))
def test_every_member_can_prove_its_reward(amounts: dict[int, int]) -> None:
    rewards = {f"0x{address:040x}": amount for address, amount in amounts.items()}
    tree = RewardTree(rewards, b"\x05" * 32)
    for member, amount in rewards.items():
        node = leaf(b"\x05" * 32, member, amount)
        for sibling in tree.proof(member):
            node = signing.keccak(min(node, sibling) + max(node, sibling))
        assert node == tree.root
