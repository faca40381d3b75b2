"""The work queue: bursts merge, no key is worked on twice at once, and failures come back ever more rarely."""

from __future__ import annotations

import asyncio

import pytest
from covey_operator.queue import WorkQueue
from hypothesis import given, settings
from hypothesis import strategies as st


async def test_a_burst_of_one_key_is_one_pass():
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(100):
        queue.add("a")
    assert await queue.get() == "a"
    assert len(queue) == 0


async def test_a_key_that_is_added_while_it_is_worked_on_comes_again_afterwards():
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    await queue.get()
    queue.add("a")
    assert len(queue) == 0, "not while it is being worked on"
    queue.done("a")
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_an_earlier_appointment_stands():
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add_after("a", 100)
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_a_later_appointment_is_moved_forward():
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 100)
    queue.add_after("a", 0.01)
    assert await asyncio.wait_for(queue.get(), 1) == "a"


async def test_being_due_cancels_the_appointment():
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 0.01)
    queue.add("a")
    await queue.get()
    queue.done("a")
    await asyncio.sleep(0.03)
    assert len(queue) == 0


async def test_failures_back_off_with_jitter_and_a_cap_until_forgotten():
    queue: WorkQueue[str] = WorkQueue(base_seconds=1, cap_seconds=60)
    delays = [queue.add_failed("a") for _ in range(12)]
    for delay, expected in zip(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60, 60], strict=True):
        assert 0.8 * expected <= delay <= 1.2 * expected
    queue.forget("a")
    assert queue.add_failed("a") <= 1.2
    queue.close()


async def test_the_servers_own_wish_is_never_undercut():
    queue: WorkQueue[str] = WorkQueue(base_seconds=1)
    assert queue.add_failed("a", retry_after_seconds=30) == pytest.approx(30)
    queue.close()


async def test_the_oldest_waiting_key_shows_its_age():
    queue: WorkQueue[str] = WorkQueue()
    assert queue.oldest_pending_seconds == 0
    queue.add("a")
    await asyncio.sleep(0.02)
    assert queue.oldest_pending_seconds >= 0.02


async def test_what_has_happened_goes_before_routine():
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "c"):
        queue.add(key, routine=True)
    queue.add("news")
    queue.add("b")
    assert len(queue) == 4
    assert [await queue.get() for _ in range(4)] == ["news", "b", "a", "c"]
    assert len(queue) == 0


async def test_a_key_that_is_moved_forward_comes_once():
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", routine=True)
    queue.add("a")
    queue.add("a", routine=True)
    assert await queue.get() == "a"
    queue.done("a")
    queue.add("b", routine=True)
    assert await asyncio.wait_for(queue.get(), 1) == "b", "not a again"


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    st.lists(st.booleans(), min_size=60, max_size=60),
    st.integers(1, 5),
)
def test_every_add_is_followed_by_a_pass_and_never_two_at_once(keys, routine, workers):
    async def scenario() -> None:
        queue: WorkQueue[str] = WorkQueue()
        busy: set[str] = set()
        passes: dict[str, int] = dict.fromkeys(keys, 0)
        last_add: dict[str, int] = {}
        seen_at: dict[str, int] = {}
        clock = 0

        async def worker() -> None:
            nonlocal clock
            while True:
                key = await queue.get()
                assert key not in busy
                busy.add(key)
                clock += 1
                seen_at[key] = clock
                await asyncio.sleep(0)
                passes[key] += 1
                busy.discard(key)
                queue.done(key)

        tasks = [asyncio.create_task(worker()) for _ in range(workers)]
        for key, is_routine in zip(keys, routine, strict=False):
            clock += 1
            last_add[key] = clock
            queue.add(key, is_routine)
            await asyncio.sleep(0)
        for _ in range(200):
            await asyncio.sleep(0)
        for task in tasks:
            assert not task.done()
            task.cancel()
        for key in set(keys):
            assert seen_at[key] > last_add[key], "a pass began after the last add"
            assert 1 <= passes[key] <= keys.count(key)

    asyncio.run(scenario())
