"""What takes long is told meanwhile; what is done at once is not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from covey_api.task import TaskStatus
from covey_operator import passes
from covey_operator.plan.model import Problem

OBJ = {"kind": "FederatedTask", "metadata": {"namespace": "oncology", "name": "wdbc"}}
KEY = ("FederatedTask", "oncology", "wdbc")
STATUS = TaskStatus(phase="Pending")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    found: list[object] = []

    async def show(world, obj, status, conditions):
        found.append(status)
        return {**obj, "status": status}

    monkeypatch.setattr(passes, "_show", show)
    return found


async def tell(action, failing: set[object]) -> tuple[object, Problem | None]:
    return await passes._telling(SimpleNamespace(failing=failing), OBJ, STATUS, action)


async def at_once() -> None:
    return None


async def test_what_is_done_at_once_is_not_told(told: list[object]):
    assert await tell(at_once(), set()) == (OBJ, None)
    assert told == []


@pytest.mark.parametrize("failing", [False, True])
async def test_what_takes_long_is_told_unless_it_failed_before(
    told: list[object], monkeypatch: pytest.MonkeyPatch, failing: bool
):
    monkeypatch.setattr(passes, "TELL_AFTER_SECONDS", 0.01)
    obj, failure = await tell(asyncio.sleep(0.1), {KEY} if failing else set())
    assert failure is None
    assert told == ([] if failing else [STATUS.wire()])
    assert obj == (OBJ if failing else {**OBJ, "status": STATUS.wire()})


async def test_an_action_ends_with_the_pass_that_wanted_it(told: list[object], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passes, "TELL_AFTER_SECONDS", 0.01)
    ended = asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await tell(forever(), set())
    assert ended.is_set()


async def test_an_error_of_the_action_is_raised(told: list[object]):
    async def fail() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await tell(fail(), set())
