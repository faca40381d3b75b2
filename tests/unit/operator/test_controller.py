"""The loops around the queue: what health sees of them, and what a server's answer means for the next try."""

from __future__ import annotations

import asyncio

import pytest
from covey_operator.controller import Pulse, retry_after_seconds
from covey_operator.queue import WorkQueue
from kubernetes.aio.client.exceptions import ApiException


def test_health_follows_the_lists():
    now = 0.0
    pulse = Pulse(100, lambda: 0.0, lambda: now)
    assert (pulse.alive, pulse.synced) == (True, False)
    pulse.beat()
    assert (pulse.alive, pulse.synced) == (True, True)
    now = 361.0
    assert not pulse.alive
    pulse.beat()
    assert pulse.alive


def test_health_sees_workers_that_hang():
    stalled = 0.0
    pulse = Pulse(100, lambda: stalled)
    pulse.beat()
    assert pulse.alive
    stalled = 361.0
    assert not pulse.alive, "although objects are listed"


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


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"Retry-After": "7"}, 7.0), ({}, None), ({"Retry-After": "Fri, 27 Nov 2026 12:00:00 GMT"}, None), (None, None)],
)
def test_the_servers_wish_is_read_from_its_answer(headers, seconds):
    error = ApiException(status=429)
    error.headers = headers
    assert retry_after_seconds(error) == seconds
    assert retry_after_seconds(TimeoutError()) is None
