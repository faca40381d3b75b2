"""A cap on what a site sends: a token bucket shared by all its connections, whether they are awaited or in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

SLICE_BYTES = 2**16
_BURST_SECONDS = 0.1


class TokenBucket:
    """Lets bytes through at a mean rate, with bursts of at most 0.1 s of it (but one slice at least)."""

    def __init__(self, bits_per_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """None for no cap."""
        self._bytes_per_second = None if bits_per_second is None else bits_per_second / 8
        self._burst = max(SLICE_BYTES, (self._bytes_per_second or 0) * _BURST_SECONDS)
        self._tokens = self._burst  # below zero: promised, and to be waited for
        self._clock = clock
        self._filled_at = clock()
        self._lock = threading.Lock()

    def reserve(self, count: int) -> float:
        """Seconds to wait before `count` bytes (at most a slice) may be sent; first come, first served."""
        if self._bytes_per_second is None:
            return 0.0
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._bytes_per_second) - count
            self._filled_at = now
            return max(0.0, -self._tokens / self._bytes_per_second)

    async def take(self, count: int) -> None:
        """Wait until `count` bytes (at most a slice) may be sent."""
        seconds = self.reserve(count)
        if seconds:
            await asyncio.sleep(seconds)
