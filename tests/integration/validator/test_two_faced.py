"""A site that signs two headers for one update: others see it, prove it on chain, and it loses stake and seat."""

from __future__ import annotations

from pathlib import Path

import pytest
import two_faced
from covey_consortium.convene import CONSORTIUM, STAKE
from eth_utils import keccak
from numeric_driver import NumericDriver
from validator_consortium import Convene

pytestmark = pytest.mark.chain


async def test_two_headers_for_one_update_cost_half_of_the_stake_and_the_seat(convene: Convene):
    task = await convene(4, rounds={"count": 6, "answerWindow": "5s"})
    for site in task.sites:
        site.drive(NumericDriver(site.directory / "shared", site.index, seconds=lambda _round: 0.5))
    liar = task.sites[2]
    liar.program = (str(Path(two_faced.__file__)),)
    await task.start()
    for site in task.sites:
        if site is not liar:
            assert await site.exit_code(200) == 0, site.log[-3000:]
    (seat,) = (p for p in await task.chain.participants(task.task_id) if p.address == liar.owner)
    assert seat.expelled
    member = await task.chain.member(keccak(text=CONSORTIUM), liar.owner)
    assert member is not None
    assert member.stake == STAKE // 2
    settled = await task.chain.settlement(task.task_id)
    assert (settled.round, settled.last) == (6, True)
    said = "".join(site.log for site in task.sites if site is not liar)
    assert f"{liar.owner} signed twice for one slot" in said
