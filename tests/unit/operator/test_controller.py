"""The loops around the queue: what health sees of them, and what a server's answer means for the next try."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from covey_operator import controller
from covey_operator.controller import Pulse, resync, retry_after_seconds
from covey_operator.kinds import TASK, Key, Kind
from covey_operator.metrics import Metrics
from covey_operator.queue import WorkQueue
from kubernetes.aio.client.exceptions import ApiException


def test_health_follows_the_lists():
    now = 0.0
    pulse = Pulse(100, lambda: 0.0, lambda: 0.0, lambda: now)
    assert (pulse.alive, pulse.synced) == (True, False)
    pulse.beat()
    assert (pulse.alive, pulse.synced) == (True, True)
    now = 361.0
    assert not pulse.alive
    pulse.beat()
    assert pulse.alive


def test_health_sees_workers_that_hang():
    stalled = 0.0
    pulse = Pulse(100, lambda: stalled, lambda: 0.0)
    pulse.beat()
    assert pulse.alive
    stalled = 361.0
    assert not pulse.alive, "although objects are listed"


def test_health_sees_a_look_at_the_chain_that_hangs():
    now, stalled = 0.0, 0.0
    pulse = Pulse(100, lambda: 0.0, lambda: stalled, lambda: now)
    now = 361.0
    assert pulse.alive, "a standby lists nothing"
    stalled = 361.0
    assert not pulse.alive, "but it follows the chains"


async def test_a_queue_stalls_only_while_something_is_due_and_nothing_moves():
    queue: WorkQueue[str] = WorkQueue()
    assert queue.stalled_seconds == 0
    queue.add("a")
    queue.add("b")
    assert await queue.get() == "a"
    await asyncio.sleep(0.02)
    assert queue.stalled_seconds >= 0.02, "b waits, and the pass over a does not end"
    queue.done("a")
    assert queue.stalled_seconds < queue.oldest_pending_seconds, "long queues are no stall"
    await queue.get()
    assert queue.stalled_seconds == 0


class Listed:
    """An API server with tasks of the second generation, as `resync` sees it."""

    def __init__(self, *names: str) -> None:
        self.names = names

    async def each(self, kind: Kind, namespace: str | None) -> AsyncIterator[dict]:
        for name in self.names if kind is TASK else ():
            yield {"kind": TASK.kind, "metadata": {"namespace": "oncology", "name": name, "generation": 2}}


async def test_a_list_queues_what_no_watch_has_told_of_and_lets_news_go_first():
    queue: WorkQueue[Key] = WorkQueue()
    known, changed, lost, news = ((TASK.kind, "oncology", name) for name in ("known", "changed", "lost", "news"))
    for key in (known, changed):
        queue.add_after(key, 100)
    settings = SimpleNamespace(resync_seconds=100.0, watch_namespaces=())
    world = SimpleNamespace(
        kube=Listed("known", "changed", "lost"),
        settings=settings,
        metrics=Metrics(),
        generations={known: 2, changed: 1},
    )
    pulse = Pulse(100, lambda: 0.0, lambda: 0.0)
    running = asyncio.create_task(resync(world, queue, pulse))  # type: ignore[arg-type]
    assert await queue.get() == changed
    assert await queue.get() == lost
    queue.done(lost)
    queue.add(lost, routine=True)
    queue.add(news)
    assert [await queue.get(), await queue.get()] == [news, lost]
    assert pulse.synced
    assert len(queue) == 0, "what is as its last pass has seen it waits for its appointment"
    running.cancel()
    queue.close()


async def test_every_pass_ends_with_an_appointment_within_one_resync(monkeypatch):
    queue: WorkQueue[Key] = WorkQueue()
    key = (TASK.kind, "oncology", "wdbc")
    ended = asyncio.Event()

    async def one_pass(_world: object, _key: Key) -> float:
        ended.set()
        return 10_000.0

    monkeypatch.setattr(controller, "reconcile", one_pass)
    world = SimpleNamespace(settings=SimpleNamespace(resync_seconds=100.0), metrics=Metrics())
    running = asyncio.create_task(controller.work(world, queue))  # type: ignore[arg-type]
    queue.add(key)
    await ended.wait()
    await asyncio.sleep(0)
    timer = queue._timers[key]
    assert 0 < timer.when() - asyncio.get_running_loop().time() <= 100
    running.cancel()
    queue.close()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "7"}, 7.0), ({}, None), ({"Retry-After": "Fri, 27 Nov 2026 12:00:00 GMT"}, None), (None, None)],
)
def test_the_servers_wish_is_read_from_its_answer(headers, seconds):
    error = ApiException(status=429)
    error.headers = headers
    assert retry_after_seconds(error) == seconds
    assert retry_after_seconds(TimeoutError()) is None
