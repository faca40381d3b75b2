"""A cap on what a site sends: a token bucket shared by all its connections."""

from __future__ import annotations

import asyncio

SLICE_BYTES = 2**16
_BURST_SECONDS = 0.1


class TokenBucket:
    """Lets bytes through at a mean rate, with bursts of at most 0.1 s of it (but one slice at least)."""

    def __init__(self, bits_per_second: float | None) -> None:
        """None for no cap."""
        self._bytes_per_second = None if bits_per_second is None else bits_per_second / 8
        self._burst = max(SLICE_BYTES, (self._bytes_per_second or 0) * _BURST_SECONDS)
        self._tokens = self._burst
        self._filled_at: float | None = None
        self._turn = asyncio.Lock()

    async def take(self, count: int) -> None:
        """Wait until `count` bytes (at most a slice) may be sent; first come, first served."""
        if self._bytes_per_second is None:
            return
        async with self._turn:
            self._fill(self._bytes_per_second)
            if self._tokens < count:
                await asyncio.sleep((count - self._tokens) / self._bytes_per_second)
                self._fill(self._bytes_per_second)
            self._tokens -= count

    def _fill(self, bytes_per_second: float) -> None:
        now = asyncio.get_running_loop().time()
        if self._filled_at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * bytes_per_second)
        self._filled_at = now
