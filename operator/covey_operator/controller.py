"""The loops around the work queue: workers, the periodic list of everything, and the pulse that health looks at."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Final

import aiohttp
from kubernetes.aio.client.exceptions import ApiException

from covey_operator.kinds import SUBNET, TASK, Key, generation_of, key_of
from covey_operator.passes import reconcile
from covey_operator.queue import WorkQueue
from covey_operator.settings import Settings
from covey_operator.world import World

log = logging.getLogger(__name__)

CONFLICT: Final = 409
LIST_SECONDS: Final = 120.0


class Pulse:
    """Whether the operator makes progress: it lists objects, looks at its chains, and begins and ends passes.

    A chain that does not answer is no reason to start again; a worker or a look at the chain that hangs is.
    """

    def __init__(
        self,
        list_seconds: float,
        passes_stalled: Callable[[], float],
        chains_stalled: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_seconds = 3 * list_seconds + 60
        self._passes_stalled = passes_stalled
        self._chains_stalled = chains_stalled
        self._clock = clock
        self._last: float | None = None  # a standby lists nothing
        self.synced = False
        self.warm = False  # as a standby: the chains have been looked at

    def start(self) -> None:
        """The work begins now: nothing was listed yet, and the time runs."""
        self._last = self._clock()

    def beat(self) -> None:
        """All objects were listed."""
        self._last = self._clock()
        self.synced = True

    @property
    def alive(self) -> bool:
        """Whether nothing that should move has stood still for too long."""
        unlisted = self._clock() - self._last if self._last is not None else 0.0
        return max(unlisted, self._passes_stalled(), self._chains_stalled()) < self._limit_seconds


async def work(world: World, queue: WorkQueue[Key]) -> None:
    """Take keys and run passes, for ever. A failed pass is logged, counted, and comes again later."""
    while True:
        key = await queue.get()
        kind = key[0]
        try:
            with world.metrics.reconcile_seconds.labels(kind).time():
                again = await reconcile(world, key)
            queue.forget(key)
            if again is not None:
                # Spread, so that a thousand objects of one start do not come back in one second, ever.
                routine = again >= world.settings.resync_seconds
                spread = random.uniform(0.75 if routine else 0.9, 1.0)  # noqa: S311
                queue.add_after(key, min(again, world.settings.resync_seconds) * spread, routine)
            world.metrics.reconciles.labels(kind, "success").inc()
        except Exception as error:
            delay = queue.add_failed(key, retry_after_seconds(error))
            world.metrics.reconciles.labels(kind, "error").inc()
            world.metrics.reconcile_errors.labels(kind).inc()
            _log_failure(key, error, delay)
        finally:
            queue.done(key)


def retry_after_seconds(error: Exception) -> float | None:
    """The server's own wish, where it has told one (Retry-After of 429 and 503)."""
    if not isinstance(error, ApiException) or error.headers is None:
        return None
    text = str(error.headers.get("Retry-After", ""))
    return float(text) if text.isdigit() else None


def _log_failure(key: Key, error: Exception, delay_seconds: float) -> None:
    where = f"{key[0]} {key[1]}/{key[2]}"
    if isinstance(error, ApiException) and error.status == CONFLICT:
        log.debug("%s changed meanwhile; again in %.1f s", where, delay_seconds)
    elif isinstance(error, ApiException | aiohttp.ClientError | TimeoutError | OSError):
        log.warning("%s: %s; again in %.1f s", where, _short(error), delay_seconds)
    else:
        log.error("%s: pass failed; again in %.1f s", where, delay_seconds, exc_info=error)


def _short(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"API server said {error.status} {error.reason}: {str(error.body)[:300]}"
    return f"{type(error).__name__}: {error}"


def list_seconds(settings: Settings) -> float:
    """Between two lists of everything."""
    return min(LIST_SECONDS, settings.resync_seconds)


async def resync(world: World, queue: WorkQueue[Key], pulse: Pulse) -> None:
    """List all objects now and then and queue those that are new or changed since their last pass.

    So a silent watch costs one list. A pass always ends with an appointment (see `work`): every object gets one at
    least once per COVEY_RESYNC_SECONDS, whatever a watch tells.
    """
    while True:
        try:
            for key, generation in await list_objects(world):
                if world.generations.get(key) != generation:
                    queue.add(key, routine=True)
            pulse.beat()
            world.metrics.resync_success.set_to_current_time()
            wait = list_seconds(world.settings) * random.uniform(0.9, 1.1)  # noqa: S311
        except (ApiException, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning("cannot list objects: %s", _short(error))
            wait = min(5.0, world.settings.resync_seconds)
        await asyncio.sleep(wait)


async def list_objects(world: World) -> list[tuple[Key, int]]:
    """Keys and generations of all objects that this operator serves."""
    namespaces: tuple[str | None, ...] = world.settings.watch_namespaces or (None,)
    return [
        (key_of(obj), generation_of(obj))
        for namespace in namespaces
        for kind in (SUBNET, TASK)
        async for obj in world.kube.each(kind, namespace)
    ]
