"""`covey deploy` on real nodes, as a person runs it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from covey_chain.anvil import Node
from covey_chain.client import Chain
from covey_chain.signers import KeySigner
from covey_chain.types import Deployment
from covey_cli.main import cli
from eth_account import Account
from lab import BOTH, TOKEN
from test_remote_signer import signer

pytestmark = pytest.mark.chain

Run = Callable[..., Result]


@pytest.fixture
def run(node: Node, deployment: Deployment, tmp_path: Path) -> Run:
    (tmp_path / "key").write_text(node.keys[5] + "\n")

    def deploy(*options: str, chain_id: int | None = None) -> Result:
        where = ["--rpc-url", node.url, "--chain-id", str(chain_id or node.chain_id)]
        return CliRunner().invoke(cli, ["deploy", *where, "--record", str(tmp_path / "record.json"), *options])

    return deploy


def addresses(done: Result) -> dict[str, str]:
    assert done.exit_code == 0, done.output
    return {line[:16].strip(): line[16:] for line in done.output.splitlines()}


@BOTH
def test_a_consortium_is_founded_once(run: Run, node: Node, tmp_path: Path) -> None:
    key = ["--key-file", str(tmp_path / "key"), "--development-token"]
    found = ["--consortium", "heart", "--least-stake", "2.5", "--by-vote"]
    first = addresses(run(*key, *found))
    again = addresses(run(*key, *found))
    assert again.pop("consortium") == "heart (was there already)"
    assert first.pop("consortium") == "heart"
    assert again == first

    async def look() -> tuple[int, str]:
        chain = await Chain.connect(node.url, node.chain_id, first["Settlement"])
        made = await chain.consortium("heart")
        await chain.close()
        assert made is not None
        return made.min_stake, made.stake_token

    assert asyncio.run(look()) == (5 * TOKEN // 2, first["stake token"])


def test_a_keystore_and_a_signer_elsewhere_deploy_as_well(
    run: Run, node: Node, deployment: Deployment, tmp_path: Path
) -> None:
    locked = Account.encrypt(node.keys[5], "correct horse", kdf="scrypt", iterations=2)
    (tmp_path / "keystore").write_text(json.dumps(locked))
    (tmp_path / "password").write_text("correct horse\n")
    files = ["--keystore", str(tmp_path / "keystore"), "--password-file", str(tmp_path / "password")]
    first = addresses(run(*files, "--token", deployment.token))
    assert first["stake token"] == deployment.token
    with signer(node.chain_id, node.keys[5]) as url:
        elsewhere = ["--signer", url, "--address", KeySigner(node.keys[5]).address]
        assert addresses(run(*elsewhere, "--token", deployment.token)) == first
        _listening(url)
        fresh = str(tmp_path / "other.json")
        assert addresses(run(*elsewhere, "--token", deployment.token, "--record", fresh)) != first


def _listening(url: str) -> None:
    for _ in range(500):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the signer does not listen")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name the stake token"),
        (["--development-token"], "say who signs"),
        (["--development-token", "--key-file", "KEY", "--signer", "http://a.example"], "say who signs"),
        (["--development-token", "--keystore", "KEY"], "--password-file"),
        (["--development-token", "--keystore", "KEY", "--password-file", "KEY"], "the keystore does not open"),
        (["--development-token", "--signer", "http://a.example", "--address", "0x12"], "0x12 is no address"),
        (["--token", "0x" + "12" * 20, "--key-file", "KEY"], "no token contract"),
        (
            ["--development-token", "--key-file", "KEY", "--consortium", "a", "--least-stake", "much"],
            '"much" is no amount',
        ),
    ],
)
def test_what_is_missing_gets_a_sentence(run: Run, tmp_path: Path, options: list[str], said: str) -> None:
    done = run(*(str(tmp_path / "key") if option == "KEY" else option for option in options))
    assert done.exit_code == 1
    assert said in done.output


def test_another_chain_is_refused_before_anything_is_sent(run: Run, tmp_path: Path) -> None:
    done = run("--key-file", str(tmp_path / "key"), "--development-token", chain_id=5)
    assert "is a node of chain 31337, not 5" in done.output
    assert not (tmp_path / "record.json").exists()
