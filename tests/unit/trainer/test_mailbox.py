"""What driver and workers leave for each other, also when a worker group is restarted in between."""

from __future__ import annotations

import asyncio

import pytest
from covey_trainer.errors import ProgramError
from covey_trainer.mailbox import INITIALISE, Command, Mailbox

FIRST = Command(number=1, kind="train", round_number=1)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox(workers=2)


async def test_an_outcome_waits_for_every_worker_and_is_ordered_by_rank(mailbox: Mailbox) -> None:
    waiting = asyncio.create_task(mailbox.outcome(INITIALISE, 30))
    await mailbox.answer(INITIALISE, 1, "second")
    await asyncio.sleep(0)
    assert not waiting.done()
    await mailbox.answer(INITIALISE, 0, "first")
    assert await waiting == ["first", "second"]


async def test_a_worker_that_waits_gets_the_next_command_at_once(mailbox: Mailbox) -> None:
    waiting = asyncio.create_task(mailbox.command(INITIALISE))
    await asyncio.sleep(0)
    await mailbox.post(FIRST)
    assert await waiting == FIRST


async def test_a_restarted_group_is_given_the_command_that_was_not_finished(mailbox: Mailbox) -> None:
    await mailbox.post(FIRST)
    await mailbox.answer(1, 0, "before the crash")
    await mailbox.answer(INITIALISE, 0, "built again")  # what every group says first; nobody waits for it now
    assert await mailbox.command(INITIALISE) == FIRST
    for rank in (0, 1):
        await mailbox.answer(1, rank, f"again {rank}")
    assert await mailbox.outcome(1, 0) == ["again 0", "again 1"]


async def test_a_restarted_group_is_not_given_a_finished_command(mailbox: Mailbox) -> None:
    await mailbox.post(FIRST)
    for rank in (0, 1):
        await mailbox.answer(1, rank, "done")
    waiting = asyncio.create_task(mailbox.command(INITIALISE))
    second = Command(number=2, kind="train", round_number=2)
    await mailbox.post(second)
    assert await waiting == second


async def test_a_failure_is_the_outcome_and_stops_the_workers(mailbox: Mailbox) -> None:
    error = ProgramError("loss() raised.", "Mend it.")
    await mailbox.post(FIRST)
    await mailbox.fail(error)
    await mailbox.fail(ProgramError("a second rank fails too.", "Mend it."))
    assert await mailbox.outcome(1, 30) is error
    assert await mailbox.stopped()


async def test_stopping_wakes_a_worker_that_waits(mailbox: Mailbox) -> None:
    waiting = asyncio.create_task(mailbox.command(INITIALISE))
    await asyncio.sleep(0)
    await mailbox.stop()
    assert await waiting is None


async def test_nothing_yet_is_none(mailbox: Mailbox) -> None:
    assert await mailbox.outcome(INITIALISE, 0) is None
