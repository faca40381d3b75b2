"""What an operator makes of failures that come with, before and after the wish that it stops."""

import asyncio
import logging

import pytest
from covey_operator.__main__ import _until_signal
from covey_operator.run import StopRequested, asked_to_stop


async def failures_of(*works):
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work())
    except BaseExceptionGroup as failures:
        return failures
    raise AssertionError("nothing failed")


async def stop():
    raise StopRequested


async def fail():
    raise OSError("the disk is full")


async def fail_when_cut_off():
    try:
        await asyncio.sleep(3600)
    finally:
        raise RuntimeError("Session is closed")


async def test_what_is_cut_off_by_a_stop_is_no_failure(caplog):
    assert asked_to_stop(await failures_of(fail_when_cut_off, stop))
    assert "while it stopped: RuntimeError: Session is closed" in caplog.text


async def test_a_failure_before_the_stop_is_one():
    assert not asked_to_stop(await failures_of(fail, stop))


@pytest.mark.parametrize("stopping", [True, False])
async def test_a_task_that_nobody_asks_is_told_with_its_traceback_unless_the_operator_stops(
    stopping, monkeypatch, caplog
):
    async def run(settings, stop, **_):
        if stopping:
            stop.set()
        stray = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        del stray
        stop.set()

    monkeypatch.setattr("covey_operator.__main__.run", run)
    caplog.set_level(logging.INFO)
    await _until_signal(None)
    assert ("the disk is full" in caplog.text) is not stopping
