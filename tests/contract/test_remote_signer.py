"""The owner key may lie elsewhere, with a process that signs over HTTP and is believed only as far as it is right."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from covey_chain import signing
from covey_chain.anvil import free_port
from covey_chain.errors import SignerRefused, SignerUnavailable
from covey_chain.journal import Journal
from covey_chain.queue import Pace
from covey_chain.signers import KeySigner, RemoteSigner
from covey_chain.types import Receipt
from covey_chain.wallet import Wallet
from lab import CONSORTIUM, TOKEN, Lab, until
from signer_process import PASSWORD
from test_transaction_queue import pooled

pytestmark = pytest.mark.chain

SERVER = Path(__file__).parent / "signer_process.py"
STRANGER = "0x" + "5a" * 32


@contextmanager
def signer(chain_id: int, *keys: str) -> Iterator[str]:
    """A signer that holds `keys`; its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(SERVER), str(port), str(chain_id), *keys])
    try:
        yield f"http://{PASSWORD}@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


async def answering(url: str, address: str) -> RemoteSigner:
    """The signer, as soon as it listens."""

    async def up() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        except OSError:
            return False
        writer.close()
        return True

    await until(up)
    return RemoteSigner(url, address)


async def test_a_member_whose_key_is_elsewhere_joins_and_stakes(lab: Lab) -> None:
    key = lab.node.keys[1]
    with signer(lab.node.chain_id, key) as url:
        lab.wallets[0] = Wallet(lab.chain, await answering(url, KeySigner(key).address.lower()))
        await lab.enrol()
    member = await lab.chain.member(CONSORTIUM, KeySigner(key).address)
    assert member is not None
    assert member.stake == 1000 * TOKEN


async def test_a_signer_without_the_key_is_told(lab: Lab) -> None:
    with signer(lab.node.chain_id, STRANGER) as url:
        wallet = Wallet(lab.chain, await answering(url, lab.planner.address))
        with pytest.raises(SignerRefused, match=rf"{lab.planner.address} \(from is not an unlocked account\); load"):
            await wallet.fund(signing.address_of(signing.new_key()), 10**15)


async def test_a_signer_of_another_chain_is_told(lab: Lab) -> None:
    with signer(1, lab.node.keys[1]) as url:
        wallet = Wallet(lab.chain, await answering(url, lab.planner.address))
        with pytest.raises(SignerRefused, match="is it set to this chain"):
            await wallet.fund(signing.address_of(signing.new_key()), 10**15)


async def test_a_signer_that_is_away_costs_no_intent(lab: Lab, tmp_path: Path) -> None:
    url = f"http://me:hidden@127.0.0.1:{free_port()}"
    journal = Journal(tmp_path / "journal.json")
    target = signing.address_of(signing.new_key())
    with pytest.raises(SignerUnavailable, match=r"127\.0\.0\.1.*check chain\.signer\.url") as caught:
        await Wallet(lab.chain, RemoteSigner(url, lab.planner.address), journal=journal).fund(target, 10**15)
    assert "hidden" not in str(caught.value)
    assert journal.all() == {}
    with signer(lab.node.chain_id, lab.node.keys[1]) as there:
        wallet = Wallet(lab.chain, await answering(there, lab.planner.address), journal=journal)
        assert (await wallet.fund(target, 10**15)).tx_hash is not None


async def test_without_its_password_a_signer_is_no_use(lab: Lab) -> None:
    with signer(lab.node.chain_id, lab.node.keys[1]) as url:
        bare = RemoteSigner(url.replace(f"{PASSWORD}@", ""), lab.planner.address)
        await answering(url, lab.planner.address)
        with pytest.raises(SignerUnavailable, match="HTTP 401 without JSON"):
            await bare.sign_transaction({"nonce": 0})


async def test_a_transaction_waits_for_its_block_while_the_signer_is_away(lab: Lab) -> None:
    """Fees cannot rise without a signature; what is on its way is followed all the same."""
    target = signing.address_of(signing.new_key())
    await lab.rpc("evm_setAutomine", False)
    with signer(lab.node.chain_id, lab.node.keys[1]) as url:
        remote = await answering(url, lab.planner.address)
        wallet = Wallet(lab.chain, remote, pace=Pace(last_poll=0.05, bump=0.2))
        funding = asyncio.create_task(wallet.fund(target, 10**15))
        await pooled(lab, 1)
    done, _ = await asyncio.wait([funding], timeout=1.0)
    assert not done
    await lab.rpc("evm_setAutomine", True)
    await lab.rpc("evm_mine")
    receipt: Receipt = await funding
    assert receipt.tx_hash is not None


@pytest.mark.parametrize("answer", ['{"result": "0x1234"}', '{"result": null}', "[1]", "not JSON", '{"error": "no"}'])
async def test_nonsense_is_no_signature(lab: Lab, answer: str) -> None:
    async def say(_: web.Request) -> web.Response:
        return web.Response(text=answer)

    app = web.Application()
    app.add_routes([web.post("/", say)])
    runner, port = web.AppRunner(app), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        with pytest.raises((SignerRefused, SignerUnavailable)):
            await RemoteSigner(f"http://127.0.0.1:{port}", lab.planner.address).sign_transaction({"nonce": 0})
    finally:
        await runner.cleanup()
