"""The work queue: after client-go's `workqueue`, one key is never worked on twice at once, and bursts merge.

What has happened goes before routine (as in controller-runtime's priority queue): a thousand objects that are merely
looked at again must not keep a new one waiting.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


@dataclass(frozen=True, order=True)
class _Place:
    """A place in the queue: routine after all that is not, else in order."""

    routine: bool
    number: int


class WorkQueue(Generic[KeyT]):
    """Keys that wait for a pass.

    A key that is added while it is being worked on comes again after `done`. A failed key comes back with
    exponential, jittered delay. Not thread-safe: all calls belong to one event loop.
    """

    def __init__(self, base_seconds: float = 1.0, cap_seconds: float = 60.0) -> None:
        # A key that was moved forward leaves its old place behind; `get` skips it.
        self._ready: asyncio.PriorityQueue[tuple[_Place, KeyT]] = asyncio.PriorityQueue()
        self._places: dict[KeyT, _Place] = {}
        self._waiting: dict[KeyT, float] = {}
        self._numbers = itertools.count()
        self._busy: set[KeyT] = set()
        self._timers: dict[KeyT, asyncio.TimerHandle] = {}
        self._failures: dict[KeyT, int] = {}
        self._base_seconds = base_seconds
        self._cap_seconds = cap_seconds
        self._moved_at = 0.0

    def __len__(self) -> int:
        """Keys that are due and not being worked on."""
        return sum(key not in self._busy for key in list(self._waiting))

    @property
    def oldest_pending_seconds(self) -> float:
        """How long the key that waits longest has been due; 0 when none waits."""
        waiting = list(self._waiting.values())  # one step: the metrics are read in a thread
        return time.monotonic() - min(waiting) if waiting else 0.0

    @property
    def stalled_seconds(self) -> float:
        """How long a key has been due while no pass began or ended; 0 when none waits."""
        if not self._waiting:
            return 0.0
        return min(self.oldest_pending_seconds, time.monotonic() - self._moved_at)

    def add(self, key: KeyT, routine: bool = False) -> None:
        """Make a key due now; `routine` lets everything else go first."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        place = self._places.get(key)
        if place is not None and (routine or not place.routine):
            return
        self._places[key] = place = _Place(routine, next(self._numbers))
        self._waiting.setdefault(key, time.monotonic())
        if key not in self._busy:
            self._ready.put_nowait((place, key))

    def add_after(self, key: KeyT, delay_seconds: float, routine: bool = False) -> None:
        """Make a key due after a delay; an earlier appointment of the same key stands."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay_seconds:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay_seconds, self.add, key, routine)

    def add_failed(self, key: KeyT, retry_after_seconds: float | None = None) -> float:
        """Bring a failed key back later; returns the delay in seconds.

        `retry_after_seconds` is the server's own wish (Retry-After); it is never undercut.
        """
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = min(self._cap_seconds, self._base_seconds * 2.0 ** min(failures - 1, 16))
        delay *= random.uniform(0.8, 1.2)  # noqa: S311 (jitter, not a secret)
        if retry_after_seconds is not None:
            delay = max(delay, retry_after_seconds)
        self.add_after(key, delay)
        return delay

    def forget(self, key: KeyT) -> None:
        """Clear a key's failures after a good pass."""
        self._failures.pop(key, None)

    async def get(self) -> KeyT:
        """Wait for a key and take it; the caller must call `done`."""
        while True:
            place, key = await self._ready.get()
            if key not in self._busy and self._places.get(key) == place:
                break
        del self._places[key], self._waiting[key]
        self._busy.add(key)
        self._moved_at = time.monotonic()
        return key

    def done(self, key: KeyT) -> None:
        """End the work on a key; if it was added meanwhile, it is due again."""
        self._busy.discard(key)
        self._moved_at = time.monotonic()
        place = self._places.get(key)
        if place is not None:
            self._ready.put_nowait((place, key))

    def close(self) -> None:
        """Cancel all appointments."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
