from dataclasses import fields, replace
from typing import Any

import pytest
from covey_chain import signing
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
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

DOMAIN = signing.Domain(31337, "0x" + "11" * 20)
VOTE = Vote(b"\x01" * 32, 3, 0, 0, 1, b"\x02" * 32, "0x" + "22" * 20)
KEY = bytes.fromhex("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# The brief of the contracts, word for word; both sides hash these strings.
TYPES = {
    UpdateHeader: "UpdateHeader(bytes32 taskId,uint64 round,uint32 attempt,address site,bytes32 base,bytes32 codec,"
    "uint64 length,bytes32 root,uint64 samples)",
    Proposal: "Proposal(bytes32 taskId,uint64 round,uint8 step,uint32 view,int32 validView,bytes32 value,address site)",
    Vote: "Vote(bytes32 taskId,uint64 round,uint8 step,uint32 view,uint8 kind,bytes32 value,address site)",
    ScoreCommit: "ScoreCommit(bytes32 taskId,uint64 round,address site,bytes32 commitment)",
    ScoreReveal: "ScoreReveal(bytes32 taskId,uint64 round,address site,bytes32 salt,bytes32 scoresHash)",
    RoundResult: "RoundResult(bytes32 taskId,uint64 round,uint32 epoch,bytes32 modelDigest,bytes32 updatesRoot,"
    "bytes32 scoresRoot,bytes32 rewardRoot,bytes32 penalties,uint256 totalReward,bool accepted,bool last)",
    RollCall: "RollCall(bytes32 taskId,uint32 epoch,address site,bytes32 evidenceHash)",
    AuditVerdict: "AuditVerdict(bytes32 taskId,address member,uint32 epoch,bool authentic,bytes32 findingsHash)",
}
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bytes32": st.binary(min_size=32, max_size=32),
    "address": st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    **{f"uint{bits}": st.integers(0, 2**bits - 1) for bits in (8, 32, 64, 256)},
}


def members(kind: type) -> list[list[str]]:
    return [member.split(" ") for member in TYPES[kind].partition("(")[2].rstrip(")").split(",")]


signables = st.sampled_from(list(TYPES)).flatmap(
    lambda kind: st.builds(kind, **{f.name: VALUES[t] for f, (t, _) in zip(fields(kind), members(kind), strict=True)})
)


@pytest.mark.parametrize("kind", TYPES)
def test_type_strings_are_those_of_the_contracts(kind: type) -> None:
    assert signing.type_string(kind) == TYPES[kind]


@given(signables)
def test_digests_are_those_of_eip_712(value: Statement) -> None:
    kind = type(value)
    signable = encode_typed_data(
        {"name": "Covey", "version": "1", "chainId": 31337, "verifyingContract": DOMAIN.contract},
        {kind.__name__: [{"type": t, "name": name} for t, name in members(kind)]},
        {name: getattr(value, f.name) for f, (_, name) in zip(fields(kind), members(kind), strict=True)},
    )
    signed = Account.sign_message(signable, KEY)
    assert signing.digest(DOMAIN, value) == bytes(signed.message_hash)
    assert signing.sign(DOMAIN, value, KEY) == bytes(signed.signature)


@given(signables)
def test_a_signature_recovers_to_its_signer(value: Statement) -> None:
    signature = signing.sign(DOMAIN, value, KEY)
    assert len(signature) == 65
    assert signature[64] in (27, 28)
    assert signing.recover(DOMAIN, value, signature) == signing.address_of(KEY)
    assert signing.sign(DOMAIN, value, KEY) == signature


def test_a_signature_is_worth_nothing_for_another_value_or_domain() -> None:
    signature = signing.sign(DOMAIN, VOTE, KEY)
    assert signing.recover(DOMAIN, replace(VOTE, view=1), signature) != signing.address_of(KEY)
    assert signing.recover(replace(DOMAIN, chain_id=1), VOTE, signature) != signing.address_of(KEY)
    assert signing.recover(replace(DOMAIN, contract="0x" + "12" * 20), VOTE, signature) != signing.address_of(KEY)


def test_the_other_form_of_a_signature_is_refused() -> None:
    signature = signing.sign(DOMAIN, VOTE, KEY)
    s = int.from_bytes(signature[32:64], "big")
    malleated = signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(signing.SignatureInvalid, match="high s"):
        signing.recover(DOMAIN, VOTE, malleated)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_other_recovery_ids_are_refused(v: int) -> None:
    with pytest.raises(signing.SignatureInvalid, match="27 or 28"):
        signing.recover(DOMAIN, VOTE, signing.sign(DOMAIN, VOTE, KEY)[:64] + bytes([v]))


@given(st.binary(max_size=130))
def test_nobody_signs_by_chance(raw: bytes) -> None:
    try:
        signer = signing.recover(DOMAIN, VOTE, raw)
    except signing.SignatureInvalid:
        signer = ""
    assert signer != signing.address_of(KEY)


@pytest.mark.parametrize("bad", [b"", bytes(64), bytes(65), bytes(64) + b"\x1b", b"\xff" * 64 + b"\x1b"])
def test_what_is_not_a_signature_is_refused(bad: bytes) -> None:
    with pytest.raises(signing.SignatureInvalid):
        signing.recover(DOMAIN, VOTE, bad)


@pytest.mark.parametrize("bad", ["", "0x12", "0x" + "zz" * 32, "0x" + "00" * 32, "0x" + "ff" * 32])
def test_what_is_not_a_key_is_refused(bad: str) -> None:
    with pytest.raises(BadWalletKey):
        signing.private_key(bad)


def test_a_key_may_lack_its_prefix_and_carry_a_newline() -> None:
    assert signing.private_key(KEY.hex() + "\n") == signing.private_key("0x" + KEY.hex()) == KEY
