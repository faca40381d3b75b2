"""One of three is away, and the others go on; it comes back, and counts again. Real validators, real contracts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from covey_exchange.manifest import model_digest
from covey_validator.records import CertifiedRound
from numeric_driver import NumericDriver
from safetensors.numpy import load_file
from validator_consortium import Consortium, Convene
from validator_member import Site

pytestmark = pytest.mark.chain
QUICK = {"deadline": "3s", "answerWindow": "4s"}


def drive(sites: list[Site], seconds: float = 0.2) -> None:
    for site in sites:
        site.drive(NumericDriver(site.directory / "shared", site.index, seconds=lambda _number: seconds))


def records(site: Site) -> list[CertifiedRound]:
    paths: list[Path] = sorted((site.directory / "state/certified").glob("*.json"))
    return [CertifiedRound.parse(path.read_bytes()) for path in paths]


def digest(site: Site) -> bytes:
    return model_digest(load_file(site.directory / "output/numbers/model.safetensors"))


async def suspends(site: Site, gone: Site) -> None:
    """Wait until a site says that another one does not count, and that it keeps its stake."""
    async with asyncio.timeout(180):
        while True:
            status = json.loads(await site.get("/status"))
            if gone.owner in status["suspended"]:
                assert "keeps its stake" in status["message"]
                return
            await asyncio.sleep(0.05)


async def succeed(task: Consortium, sites: list[Site]) -> None:
    for site in sites:
        assert await site.exit_code(180) == 0, site.log[-3000:]


async def test_two_of_three_go_on_when_the_third_is_gone_for_good(convene: Convene):
    task = await convene(rounds={"count": 5, **QUICK})
    drive(task.sites)
    await task.start()
    *here, gone = task.sites
    await gone.reaches(2)
    await gone.kill()
    await suspends(here[0], gone)
    await succeed(task, here)

    settled = await task.chain.settlement(task.task_id)
    assert (settled.round, settled.last) == (5, True)
    assert {digest(site) for site in here} == {settled.model_digest}
    epochs = [record.epoch for record in records(here[0])]
    assert epochs == sorted(epochs)
    assert epochs[0] == 0 < epochs[-1]
    state = await task.chain.roll_calls(task.task_id)
    assert state.active.keys() == {site.owner for site in here}
    member = next(m for m in await task.chain.participants(task.task_id) if m.address == gone.owner)
    assert member.stake > 0, "who is away keeps its stake"


async def test_a_member_that_comes_back_counts_from_the_next_epoch(convene: Convene):
    task = await convene(rounds={"count": 12, **QUICK})
    drive(task.sites, seconds=0.5)
    await task.start()
    *here, away = task.sites
    await away.reaches(1)
    await away.kill()
    for site in here:
        await site.reaches(3, 120)
    await away.start()
    await succeed(task, task.sites)

    settled = await task.chain.settlement(task.task_id)
    assert {digest(site) for site in task.sites} == {settled.model_digest}
    found = records(away)
    assert {record.result for record in found} == {record.result for record in records(here[0])}
    assert found[-1].epoch >= 2
    assert (await task.chain.roll_calls(task.task_id)).active.keys() == {site.owner for site in task.sites}
    assert away.owner in found[-1].selected
    assert not any("signed twice" in site.log for site in task.sites)


async def test_one_of_three_alone_does_not_go_on(convene: Convene):
    task = await convene(rounds={"count": 3, **QUICK})
    drive(task.sites)
    await task.start()
    alone, *others = task.sites
    await alone.reaches(1)
    for site in others:
        await site.kill()
    before = alone.certified()
    with pytest.raises(TimeoutError):
        await alone.reaches(before + 1, 25)
    assert len((await task.chain.roll_calls(task.task_id)).active) > 1, "it went on by itself"
    for site in others:
        await site.start()
    await succeed(task, task.sites)
    assert len({digest(site) for site in task.sites}) == 1


async def test_a_restart_in_the_middle_of_a_call_keeps_what_was_promised(convene: Convene):
    task = await convene(rounds={"count": 4, **QUICK, "answerWindow": "10s"})
    drive(task.sites)
    await task.start()
    *here, gone = task.sites
    await gone.reaches(1)
    await gone.kill()
    rollcalls = here[0].directory / "state/rollcalls.json"
    for _ in range(1200):
        if rollcalls.exists():
            break
        await asyncio.sleep(0.1)
    assert rollcalls.exists()
    await here[0].kill()
    await here[0].start()
    await succeed(task, here)
    assert {digest(site) for site in here} == {(await task.chain.settlement(task.task_id)).model_digest}
    assert not any("signed twice" in site.log for site in here)
