"""A task whose quorum is gone when its deadline passes. Real validators, real contracts."""

from __future__ import annotations

import asyncio

import pytest
from covey_chain import rpc
from numeric_driver import NumericDriver
from validator_consortium import Consortium, Convene

pytestmark = pytest.mark.chain
WINDOW_SECONDS = 600


async def pass_the_deadline(task: Consortium) -> None:
    provider = rpc.connect(task.node.url).provider
    state = await task.chain.fallback(task.task_id)
    await provider.make_request("evm_setNextBlockTimestamp", [state.deadline + 1])
    await provider.make_request("evm_mine", [])
    await provider.disconnect()


async def test_the_last_one_settles_and_claims_what_a_quorum_had_signed(convene: Convene):
    rounds = {"count": 8, "settleEvery": 8, "deadline": "3s", "fallbackWindow": f"{WINDOW_SECONDS}s"}
    task = await convene(rounds=rounds, incentives={"epochRounds": 2})
    for site in task.sites:
        site.drive(NumericDriver(site.directory / "shared", site.index, seconds=lambda _number: 0.5))
    await task.start()
    left, *gone = task.sites
    await left.reaches(2)
    for site in gone:
        await site.kill()
    assert (await task.chain.settlement(task.task_id)).round == 0
    await pass_the_deadline(task)
    async with asyncio.timeout(150):
        while True:
            if await task.chain.claimed(task.task_id, left.owner):
                break
            await asyncio.sleep(0.2)
    settled = await task.chain.settlement(task.task_id)
    assert settled.round >= 2
    assert not settled.last
    assert settled.total_reward >= await task.chain.claimed(task.task_id, left.owner) > 0
