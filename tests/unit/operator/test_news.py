"""Who hears of what: news of the chain, own writes that a watch tells of, and answers that many passes share."""

from __future__ import annotations

import asyncio

import pytest
from covey_chain.types import TaskStatus
from covey_operator.kinds import SUBNET, TASK
from covey_operator.kube import OWN_WRITES_KEPT, OwnWrites
from covey_operator.news import LOOK_AGAIN_SECONDS, Interest, News, wait_seconds
from covey_operator.plan.model import Children
from covey_operator.shared import SharedReads
from covey_operator.watch import build_registry

OWN, OTHER, TASK_ID = "0x" + "aa" * 20, "0x" + "bb" * 20, bytes(range(32))
MINE = Interest("oncology-eu", OWN, TASK_ID)
SITE = Interest("oncology-eu", OWN)
ANOTHER = b"\x01" * 32


def news(members: bool = False, tasks: tuple[bytes, ...] = (), planners: tuple[str, ...] = ()) -> News:
    return News(members, frozenset(tasks), frozenset(planners))


@pytest.mark.parametrize("status", list(TaskStatus))
def test_a_task_hears_of_itself_and_not_of_others(status, make):
    task = make.on_chain(status)
    assert wait_seconds(MINE, news(tasks=(TASK_ID, ANOTHER)), task) == 0
    assert wait_seconds(MINE, news(tasks=(ANOTHER,), planners=(OTHER,)), task) is None


def test_a_task_that_looks_for_members_hears_of_them(make):
    assert wait_seconds(MINE, news(members=True), None) == 0
    assert wait_seconds(MINE, news(members=True), make.on_chain(TaskStatus.OPEN)) == 0
    assert wait_seconds(MINE, news(members=True), make.on_chain(TaskStatus.STARTED)) is None


def test_a_subnet_hears_at_once_of_members_and_of_what_others_publish():
    assert wait_seconds(SITE, news(members=True), None) == 0
    assert wait_seconds(SITE, news(tasks=(ANOTHER,), planners=(OTHER,)), None) == 0
    for own in (news(tasks=(TASK_ID,), planners=(OWN,)), news(tasks=(ANOTHER,))):
        assert wait_seconds(SITE, own, None) == LOOK_AGAIN_SECONDS, "it only shows sums of these"


def task_object(version: str) -> dict:
    return {"metadata": {"uid": "u-1", "name": "wdbc", "namespace": "oncology", "resourceVersion": version}}


async def test_what_the_operator_wrote_itself_wakes_nobody():
    woken: list[object] = []
    writes = OwnWrites()
    registry = build_registry(lambda key, routine: woken.append((key, routine)), writes)
    handler = next(one for one in registry._watching.get_all_handlers() if one.fn.__name__ == "on_task")
    key = (TASK.kind, "oncology", "wdbc")

    async def happens(version: str) -> None:
        event = {"type": "MODIFIED", "object": task_object(version)}
        await handler.fn(namespace="oncology", name="wdbc", event=event)

    writes.add(task_object("7"))
    await happens("7")
    assert woken == []
    await happens("8")
    assert woken == [(key, False)], "a change by somebody else"


async def test_what_is_listed_is_routine_whoever_wrote_it():
    woken: list[object] = []
    writes = OwnWrites()
    registry = build_registry(lambda key, routine: woken.append((key, routine)), writes)
    handler = next(one for one in registry._watching.get_all_handlers() if one.fn.__name__ == "on_task")
    writes.add(task_object("7"))
    await handler.fn(namespace="oncology", name="wdbc", event={"type": None, "object": task_object("7")})
    assert woken == [((TASK.kind, "oncology", "wdbc"), True)]


def test_own_writes_are_not_remembered_for_ever():
    writes = OwnWrites()
    for version in range(OWN_WRITES_KEPT + 1):
        writes.add(task_object(str(version)))
    assert not writes.has(task_object("0")["metadata"])
    assert writes.has(task_object("1")["metadata"])


class Counting:
    """Answers of an API server, counted; `gate` holds them back."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()

    async def get(self, kind: object, namespace: str, name: str) -> dict:
        self.asked += 1
        number = self.asked
        await self.gate.wait()
        if name == "broken":
            raise TimeoutError
        return {"number": number}


async def test_passes_that_run_side_by_side_share_one_read():
    server = Counting()
    reads = SharedReads(server)  # type: ignore[arg-type]
    asked = [asyncio.create_task(reads.get(SUBNET, "oncology", "eu")) for _ in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()
    await asyncio.sleep(0)
    server.gate.set()
    assert await asyncio.gather(*asked[1:]) == [{"number": 1}] * 4, "who gave up has not taken the answer away"
    assert await reads.get(SUBNET, "oncology", "us") == {"number": 2}


async def test_a_shared_answer_is_read_anew_when_it_is_old(monkeypatch):
    monkeypatch.setattr("covey_operator.shared.FRESH_SECONDS", 0.0)
    server = Counting()
    server.gate.set()
    reads = SharedReads(server)  # type: ignore[arg-type]
    assert await reads.get(SUBNET, "oncology", "eu") == {"number": 1}
    await asyncio.sleep(0.01)
    assert await reads.get(SUBNET, "oncology", "eu") == {"number": 2}


async def test_an_error_is_not_shared_with_later_passes():
    server = Counting()
    server.gate.set()
    reads = SharedReads(server)  # type: ignore[arg-type]
    for asked in (1, 2):
        with pytest.raises(TimeoutError):
            await reads.get(SUBNET, "oncology", "broken")
        assert server.asked == asked
        await asyncio.sleep(0)


def test_a_pass_knows_what_it_has_written():
    pod = {"kind": "Pod", "metadata": {"name": "wdbc-head"}}
    before = Children(services={"wdbc": {"kind": "Service", "metadata": {"name": "wdbc"}}})
    after = before.having([pod])
    assert after.find("Pod", "wdbc-head") is pod
    assert (after.services, before.pods) == (before.services, {})
    assert after.find("ConfigMap", "wdbc") is None
