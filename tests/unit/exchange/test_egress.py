"""The cap on what a site sends, in virtual time: nothing here waits."""

from __future__ import annotations

import asyncio
import random
import selectors
import threading
from collections.abc import Coroutine, Iterator
from datetime import datetime, timedelta
from itertools import count
from typing import TypeVar
from zoneinfo import ZoneInfo

import pytest
from covey_exchange.egress import SLICE_BYTES, Rate, TokenBucket, steady
from covey_validator.settings import ExchangeSettings

T = TypeVar("T")


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


def run(main: Coroutine[object, object, T], late_seconds: float) -> T:
    with asyncio.Runner(loop_factory=lambda: VirtualTime(late_seconds)) as runner:
        return runner.run(main)


@pytest.mark.parametrize("late_seconds", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("megabits", [0.5, 4, 10, 100, 1000])
def test_the_cap_is_used_and_kept_within_five_percent(megabits: float, connections: int, late_seconds: float) -> None:
    slices = int(30 * megabits * 1e6 / 8 / SLICE_BYTES)  # half a minute, which begins with a burst

    async def rate() -> float:
        bucket = TokenBucket(steady(megabits * 1e6), asyncio.get_running_loop().time)
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
    bucket = TokenBucket(steady(megabits * 1e6), lambda: now)
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


@pytest.mark.parametrize("megabits", [0.5, 4, 100, 1000])
def test_pieces_of_the_size_that_the_bucket_names_keep_the_cap(megabits: float) -> None:
    """Large while there is no cap; the first one under it is paid for as well."""
    now, sent = 0.0, 0
    rates = iter([Rate(None, 10), Rate(megabits * 1e6)])
    bucket = TokenBucket(lambda: next(rates), lambda: now)
    assert bucket.reserve(bucket.at_once) == 0
    assert bucket.at_once > SLICE_BYTES
    now = 10.0
    while now < 70:
        count = bucket.at_once
        now += bucket.reserve(count)
        sent += count
    assert bucket.at_once == SLICE_BYTES
    assert sent * 8 / (now - 10) / 1e6 == pytest.approx(megabits, rel=0.05)


def test_after_a_silence_only_a_tenth_of_a_second_comes_at_once() -> None:
    async def burst() -> float:
        bucket = TokenBucket(steady(100e6), asyncio.get_running_loop().time)
        await bucket.take(1)
        await asyncio.sleep(60)
        loop = asyncio.get_running_loop()
        start, sent = loop.time(), 0
        while loop.time() == start:
            sent += SLICE_BYTES
            await bucket.take(SLICE_BYTES)
        return (sent - SLICE_BYTES) * 8 / 100e6  # the last one had to wait

    assert run(burst(), 0) == pytest.approx(0.1, abs=0.01)


def test_without_a_cap_nothing_waits() -> None:
    async def free() -> float:
        bucket = TokenBucket(steady(None), asyncio.get_running_loop().time)
        for _ in range(1000):
            await bucket.take(SLICE_BYTES)
        return asyncio.get_running_loop().time()

    assert run(free(), 0) == 0


async def greedy(bucket: TokenBucket, until: float, connections: int = 3) -> list[float]:
    """When each slice went of a site that has always something to send."""
    loop = asyncio.get_running_loop()
    sent: list[float] = []

    async def send() -> None:
        while loop.time() < until:
            await bucket.take(SLICE_BYTES)
            sent.append(loop.time())

    await asyncio.gather(*(send() for _ in range(connections)))
    return sent


def rate(sent: list[float], begin: float, end: float) -> float:
    """Mean rate between two instants, in Mbit/s."""
    return sum(begin <= at < end for at in sent) * SLICE_BYTES * 8e-6 / (end - begin)


@pytest.mark.parametrize("late_seconds", [0.0, 0.01, 0.05])
def test_each_side_of_a_boundary_has_its_own_rate_within_five_percent(late_seconds: float) -> None:
    """10 Mbit/s, in office hours 40, in the first two of them 4: one bucket through the whole day."""
    settings = ExchangeSettings.model_validate(
        {
            "maxEgressMbps": 10,
            "windows": [
                {"from": "08:00", "to": "10:00", "timeZone": "Europe/Berlin", "maxEgressMbps": 4},
                {"from": "08:00", "to": "18:00", "timeZone": "Europe/Berlin", "maxEgressMbps": 40},
            ],
        }
    )
    seven = datetime(2026, 11, 27, 7, tzinfo=ZoneInfo("Europe/Berlin"))

    async def day() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        bucket = TokenBucket(lambda: settings.egress(seven + timedelta(seconds=loop.time())), loop.time)
        rates = []
        for boundary in (3600.0, 3 * 3600.0, 11 * 3600.0):
            await asyncio.sleep(boundary - 30 - loop.time())
            sent = await greedy(bucket, boundary + 30)
            rates.append((rate(sent, boundary - 30, boundary), rate(sent, boundary, boundary + 30)))
        return rates

    expected = [(10, 4), (4, 40), (40, 10)]
    assert run(day(), late_seconds) == [pytest.approx(pair, rel=0.05) for pair in expected]


def test_a_cap_that_begins_takes_hold_at_once_and_one_that_ends_lets_go() -> None:
    rates = iter([Rate(None, 10), Rate(8e6, 10), Rate(None)])

    async def half_a_minute() -> list[float]:
        loop = asyncio.get_running_loop()
        bucket = TokenBucket(lambda: next(rates), asyncio.get_running_loop().time)
        for _ in range(1000):
            await bucket.take(SLICE_BYTES)
        free = loop.time()
        await asyncio.sleep(10)
        sent = await greedy(bucket, 20)
        for _ in range(1000):
            await bucket.take(SLICE_BYTES)
        return [free, rate(sent, 10, 20), loop.time()]

    free, capped, end = run(half_a_minute(), 0)
    assert free == 0
    assert capped == pytest.approx(8, rel=0.05)
    assert end == pytest.approx(20, abs=0.25)  # each of three connections had been promised a slice
