"""A key is a key, whether it comes as hex or out of a keystore; what does not open says why and shows nothing."""

from __future__ import annotations

import json

import pytest
from covey_chain.errors import BadKeystore
from covey_chain.signers import KeySigner, open_keystore
from eth_account import Account
from eth_utils.crypto import keccak

KEY = "0x" + "4c" * 32
PASSWORD = "correct horse"
TRANSACTION = {
    "type": 2, "chainId": 1, "nonce": 3, "to": "0x" + "11" * 20, "data": "0x", "value": 1, "gas": 21000,
    "maxFeePerGas": 10, "maxPriorityFeePerGas": 1,
}  # fmt: skip
# Light parameters: the file says them, and real ones only cost time.
LIGHT = {"scrypt": 2, "pbkdf2": 2}


def keystore(kdf: str = "scrypt") -> str:
    return json.dumps(Account.encrypt(KEY, PASSWORD, kdf=kdf, iterations=LIGHT[kdf]))


async def test_the_same_transaction_is_signed_with_the_same_bytes() -> None:
    signer = KeySigner(KEY)
    raw = await signer.sign_transaction(TRANSACTION)
    assert raw == await signer.sign_transaction(TRANSACTION)
    assert Account.recover_transaction(raw) == signer.address == Account.from_key(KEY).address
    assert keccak(raw) == Account.from_key(KEY).sign_transaction(TRANSACTION).hash


@pytest.mark.parametrize("kdf", ["scrypt", "pbkdf2"])
async def test_a_keystore_signs_as_its_key(kdf: str) -> None:
    opened = open_keystore(keystore(kdf), PASSWORD)
    assert opened.address == KeySigner(KEY).address
    assert await opened.sign_transaction(TRANSACTION) == await KeySigner(KEY).sign_transaction(TRANSACTION)


def without(part: str) -> str:
    content = json.loads(keystore())
    del content["crypto"][part]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "password", "cause"),
    [
        (keystore(), "another", "the password does not open it"),
        ("0x" + "4c" * 32, PASSWORD, "not JSON"),
        (json.dumps({"version": 1}), PASSWORD, "version 3"),
        (json.dumps(["version", 3]), PASSWORD, "version 3"),
        (without("kdf"), PASSWORD, "missing or unknown"),
        (without("mac"), PASSWORD, "missing or unknown"),
        (keystore().replace('"scrypt"', '"argon"'), PASSWORD, "missing or unknown"),
    ],
)
def test_what_does_not_open_says_why_and_shows_nothing(text: str, password: str, cause: str) -> None:
    with pytest.raises(BadKeystore, match=cause) as caught:
        open_keystore(text, password)
    for secret in (KEY[2:], PASSWORD, "another"):
        assert secret not in str(caught.value)
