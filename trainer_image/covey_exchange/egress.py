"""A cap on what a site sends: a token bucket shared by all its connections, whether they are awaited or in threads."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SLICE_BYTES = 2**16
FREE_BYTES = 2**18
_BURST_SECONDS = 0.1


@dataclass(frozen=True)
class Rate:
    """What may be sent from now on.

    Attributes:
        bits_per_second: None for no cap.
        seconds: for how long from now; then it has to be asked for again.
    """

    bits_per_second: float | None
    seconds: float = math.inf


Schedule = Callable[[], Rate]


def steady(bits_per_second: float | None) -> Schedule:
    """One rate for good; None for no cap."""
    return lambda: Rate(bits_per_second)


class TokenBucket:
    """Lets bytes through at a mean rate, with bursts of at most a slice and 0.1 s of it.

    So a slice that goes up to 0.1 s late, because the machine is busy, is made up for at any rate.
    """

    def __init__(self, schedule: Schedule, clock: Callable[[], float] = time.monotonic) -> None:
        """`schedule` is asked at the first byte, and again whenever what it said has run out."""
        self._schedule = schedule
        self._clock = clock
        self._bytes_per_second: float | None = None
        self._tokens = self._burst = 0.0  # below zero: promised, and to be waited for
        self._filled_at = 0.0
        self._until = -math.inf
        self._lock = threading.Lock()

    @property
    def at_once(self) -> int:
        """Bytes to reserve at a time: a slice under a cap, more when there was none just now, as each call costs."""
        return FREE_BYTES if self._bytes_per_second is None else SLICE_BYTES

    def reserve(self, count: int) -> float:
        """Seconds to wait before `count` bytes (at most `at_once`) may be sent; first come, first served."""
        with self._lock:
            rate = self._fill()
            if rate is None:
                return 0.0
            self._tokens -= count
            return max(0.0, -self._tokens / rate)

    async def take(self, count: int) -> None:
        """Wait until `count` bytes (at most a slice) may be sent."""
        seconds = self.reserve(count)
        if seconds:
            await asyncio.sleep(seconds)

    def _fill(self) -> float | None:
        """Add what has come since the last time, each part at the rate that held; the rate now, in bytes per second."""
        now = self._clock()
        if now >= self._until:
            self._add(self._until)
            self._change(self._schedule(), now)
        self._add(now)
        return self._bytes_per_second

    def _add(self, now: float) -> None:
        if self._bytes_per_second is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._bytes_per_second)
            self._filled_at = now

    def _change(self, rate: Rate, now: float) -> None:
        """Go over to another rate; what was saved up stays as far as the new burst allows."""
        was_free = self._bytes_per_second is None
        self._bytes_per_second = None if rate.bits_per_second is None else rate.bits_per_second / 8
        self._burst = SLICE_BYTES + (self._bytes_per_second or 0) * _BURST_SECONDS
        if was_free:
            self._tokens, self._filled_at = self._burst, now
        self._tokens = min(self._tokens, self._burst)
        self._until = now + rate.seconds
