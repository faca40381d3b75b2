"""The cap on what a site sends, in virtual time: nothing here waits."""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
from collections.abc import Coroutine, Iterator
from itertools import count

import pytest
from covey_exchange.egress import SLICE_BYTES, TokenBucket


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer, and now and then too far, as a busy machine's does."""

    def __init__(self, late_seconds: float) -> None:
        super().__init__(Jumping(self, late_seconds))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualTime, late_seconds: float) -> None:
        super().__init__()
        self._loop = loop
        self._late_seconds = late_seconds
        self._random = random.Random(1)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits for nothing"
        if timeout > 0:
            self._loop.now += timeout + self._random.uniform(0, self._late_seconds)
        return super().select(0)


def run(main: Coroutine[object, object, float], late_seconds: float) -> float:
    with asyncio.Runner(loop_factory=lambda: VirtualTime(late_seconds)) as runner:
        return runner.run(main)


@pytest.mark.parametrize("late_seconds", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("megabits", [0.5, 10, 100, 1000])
def test_the_cap_is_used_and_kept_within_five_percent(megabits: float, connections: int, late_seconds: float) -> None:
    slices = int(30 * megabits * 1e6 / 8 / SLICE_BYTES)  # half a minute, which begins with a burst

    async def rate() -> float:
        bucket = TokenBucket(megabits * 1e6, asyncio.get_running_loop().time)
        loop = asyncio.get_running_loop()
        left = iter(range(slices))
        sent = count()

        async def send(slices: Iterator[int]) -> None:
            for _ in slices:
                await bucket.take(SLICE_BYTES)
                next(sent)

        start = loop.time()
        await asyncio.gather(*(send(left) for _ in range(connections)))
        return next(sent) * SLICE_BYTES * 8 / (loop.time() - start) / 1e6

    assert run(rate(), late_seconds) == pytest.approx(megabits, rel=0.05)


@pytest.mark.parametrize("megabits", [10, 100])
def test_threads_and_tasks_share_one_cap(megabits: float) -> None:
    """A thread that waits as long as it is told; its time is made up, so that nothing is slept away."""
    now = 0.0
    step = threading.Barrier(4)
    bucket = TokenBucket(megabits * 1e6, lambda: now)
    slices = int(10 * megabits * 1e6 / 8 / SLICE_BYTES) // 4
    waits = [0.0] * 4

    def send(index: int) -> None:
        nonlocal now
        for _ in range(slices):
            waits[index] = bucket.reserve(SLICE_BYTES)
            if step.wait() == 0:
                now += max(waits)
            step.wait()

    threads = [threading.Thread(target=send, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 * slices * SLICE_BYTES * 8 / now / 1e6 == pytest.approx(megabits, rel=0.05)


def test_after_a_silence_only_a_tenth_of_a_second_comes_at_once() -> None:
    async def burst() -> float:
        bucket = TokenBucket(100e6, asyncio.get_running_loop().time)
        await bucket.take(1)
        await asyncio.sleep(60)
        loop = asyncio.get_running_loop()
        start, sent = loop.time(), 0
        while loop.time() == start:
            await bucket.take(SLICE_BYTES)
            sent += SLICE_BYTES
        return sent * 8 / 100e6

    assert run(burst(), 0) == pytest.approx(0.1, abs=0.01)


def test_without_a_cap_nothing_waits() -> None:
    async def free() -> float:
        bucket = TokenBucket(None, asyncio.get_running_loop().time)
        for _ in range(1000):
            await bucket.take(SLICE_BYTES)
        return asyncio.get_running_loop().time()

    assert run(free(), 0) == 0
