"""A member loses its state volume in the middle of a round: it never signs twice, and counts again afterwards."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from covey_cli.main import cli
from numeric_driver import NumericDriver
from test_absent_member import QUICK, digest, records, succeed
from validator_consortium import Consortium, Convene
from validator_member import Site

pytestmark = pytest.mark.chain
MARK = "output/.covey"


def drive(site: Site, data: int, seconds: float) -> None:
    site.drive(NumericDriver(site.directory / "shared", data, seconds=lambda _number: seconds))


async def claim(task: Consortium, report: Path, key_file: Path) -> str:
    arguments = ["claim", *task.options, "--key-file", str(key_file), "--report", str(report)]
    done = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    return f"{done.exit_code} {done.output}"


async def has_signed_in(site: Site, round_number: int) -> None:
    signed = site.directory / f"state/rounds/{round_number}/messages.log"
    for _ in range(3000):
        if signed.exists():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"nothing was signed in round {round_number}")


async def test_who_lost_its_state_is_silent_where_it_may_have_signed(convene: Convene):
    task = await convene(rounds={"count": 6, **QUICK})
    *here, careless = task.sites
    for site in here:
        drive(site, site.index, seconds=1.5)
    drive(careless, careless.index, seconds=0.1)
    await task.start()
    await has_signed_in(careless, 2)
    await careless.kill()
    shutil.rmtree(careless.directory / "state")
    assert careless.driving is not None
    careless.driving.cancel()
    drive(careless, careless.index + 7, seconds=0.1)  # another update than before: to sign it, too, would be fraud
    await careless.start()
    await succeed(task, task.sites)

    assert "round 2: what this site has signed in it was lost" in careless.log
    assert not any("signed twice" in site.log for site in task.sites)
    settled = await task.chain.settlement(task.task_id)
    assert {digest(site) for site in task.sites} == {settled.model_digest}
    assert careless.owner in records(here[0])[-1].selected, "it counts again"
    stakes = {member.address: member.stake for member in await task.chain.participants(task.task_id)}
    assert stakes[careless.owner] == stakes[here[0].owner], "and has lost nothing"
    assert not any((careless.directory / MARK).iterdir()), "nothing is left of a task that is done"


async def test_who_comes_when_all_others_have_left_is_told(convene: Convene):
    """Nobody is there to give it the last rounds: it ends with a reason, and is paid by the report of another."""
    task = await convene(rounds={"count": 4, **QUICK})
    for site in task.sites:
        drive(site, site.index, seconds=0.2)
    await task.start()
    *here, late = task.sites
    await late.reaches(2)
    await late.kill()
    await succeed(task, here)
    shutil.rmtree(late.directory / "state")
    assert late.driving is not None
    late.driving.cancel()
    drive(late, late.index, seconds=0.2)
    await late.start()
    assert await late.exit_code(120) == 2, late.log[-3000:]
    assert late.termination["reason"] == "PeersUnreachable"
    assert "model.safetensors" in late.termination["message"]

    report = here[0].directory / "output/numbers/report.json"
    (key_file := late.directory / "owner.key").write_text(late.owner_key)
    earned = {owner: int(amount) for owner, amount in json.loads(report.read_text())["rewards"].items()}
    assert earned[late.owner] > 0
    other = late.directory / "other.json"
    other.write_text(json.dumps({"rewards": {**earned, late.owner: str(earned[late.owner] + 1)}}))
    assert "does not have the rewards that were settled in round 4" in await claim(task, other, key_file)
    other.write_text('{"rewards": {"0x12": "5"}}')
    assert "0x12 is no address" in await claim(task, other, key_file)
    paid = await claim(task, report, key_file)
    assert all(f"✓ {owner}: {amount} paid" in paid for owner, amount in earned.items())
    assert await task.chain.claimed(task.task_id, late.owner) == earned[late.owner]
    again = await claim(task, report, key_file)
    assert again.startswith("0 ")
    assert f"  {late.owner}: has been paid {earned[late.owner]}" in again
