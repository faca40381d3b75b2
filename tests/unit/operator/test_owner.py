"""Whose hand signs for a member, and what a person reads where there is none; signing itself is tested on a chain."""

from __future__ import annotations

import base64
import json

import pytest
from covey_api.status import Reason
from covey_api.subnet import ChainSpec
from covey_chain.signers import KeySigner, RemoteSigner
from covey_operator.owner import signer_of
from covey_operator.plan.model import Problem
from eth_account import Account

KEY = "0x" + "4c" * 32
OWNER = Account.from_key(KEY).address
KEYSTORE = json.dumps(Account.encrypt(KEY, "correct horse", kdf="scrypt", iterations=2))


class Secrets:
    """The part of `Kube` that is asked for; the real one is tested on an API server."""

    def __init__(self, **data: str) -> None:
        self._data = {name.replace("_", "."): base64.b64encode(text.encode()).decode() for name, text in data.items()}

    async def get(self, _kind: object, _namespace: str, name: str) -> object:
        return {"metadata": {"name": name}, "data": self._data} if name == "wallet" else None


async def ask(secrets: Secrets, **how: object) -> object:
    spec = {"rpcUrl": "http://a.example", "chainId": 1, "contract": "0x" + "c0" * 20, **how}
    return await signer_of(secrets, "oncology", ChainSpec.model_validate(spec))  # type: ignore[arg-type]


async def test_a_key_a_keystore_and_a_signer_are_one_owner():
    locked = {"name": "wallet", "key": "keystore.json", "passwordKey": "password"}
    found = [
        await ask(Secrets(privateKey=KEY + "\n"), walletSecret={"name": "wallet"}),
        await ask(Secrets(keystore_json=KEYSTORE, password="correct horse\n"), walletSecret=locked),
        await ask(Secrets(), signer={"url": "http://signer.example:9000", "address": OWNER.lower()}),
    ]
    assert [type(signer) for signer in found] == [KeySigner, KeySigner, RemoteSigner]
    assert {signer.address for signer in found} == {OWNER}  # type: ignore[attr-defined]


async def test_the_next_pass_finds_the_same_signer():
    remote = {"url": "http://signer.example:9000", "address": OWNER}
    assert await ask(Secrets(), signer=remote) == await ask(Secrets(), signer=remote)
    assert await ask(Secrets(), signer=remote) != await ask(Secrets(), signer={**remote, "url": "http://b.example"})
    by_key = [await ask(Secrets(privateKey=KEY), walletSecret={"name": "wallet"}) for _ in range(2)]
    assert by_key[0] == by_key[1]
    assert len({*by_key}) == 1


@pytest.mark.parametrize(
    ("data", "where", "reason", "cause"),
    [
        ({}, {"name": "elsewhere"}, Reason.WALLET_SECRET_NOT_FOUND, '"elsewhere"'),
        ({"password": "x"}, {"name": "wallet"}, Reason.BAD_WALLET_KEY, '"privateKey" is missing; it has: password'),
        ({"privateKey": KEYSTORE}, {"name": "wallet"}, Reason.BAD_WALLET_KEY, "64 hex digits"),
        (
            {"privateKey": KEYSTORE, "password": "wrong"},
            {"name": "wallet", "passwordKey": "password"},
            Reason.BAD_WALLET_KEY,
            "the password does not open it",
        ),
        (
            {"privateKey": KEYSTORE},
            {"name": "wallet", "passwordKey": "password"},
            Reason.BAD_WALLET_KEY,
            '"password" is missing',
        ),
    ],
)
async def test_what_is_wrong_with_a_secret_is_told(data: dict[str, str], where: object, reason: Reason, cause: str):
    problem = await ask(Secrets(**data), walletSecret=where)
    assert isinstance(problem, Problem)
    assert problem.reason is reason
    assert cause in problem.message
    assert "wrong" not in problem.message
