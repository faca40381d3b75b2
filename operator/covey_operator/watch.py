"""kopf watches and wakes; it drives nothing and writes nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

import kopf

from covey_operator.kinds import CONFIG_MAP, NETWORK_POLICY, POD, SERVICE, SUBNET, TASK, Key
from covey_operator.kube import OwnWrites
from covey_operator.plan.names import TASK as TASK_LABEL

# Of a task. Secrets may not be listed, claims outlive their deletion while pods use them, and KubeRay may be absent.
CHILDREN = (POD, SERVICE, CONFIG_MAP, NETWORK_POLICY)
KOPFS_WATCHERS = "watcher for "  # begins the names of their tasks
LOOK_SECONDS = 1.0


class WatchEndedError(RuntimeError):
    """A watch ended although nobody asked it to."""


async def heed_watchers() -> None:
    """End with the first of kopf's watchers that ends: one that is cancelled kopf does not miss, nor its news.

    Raises:
        WatchEndedError: with the watcher's own error as its cause, if it had one.
    """
    watchers: set[asyncio.Task[object]] = set()
    while True:
        watchers |= {task for task in asyncio.all_tasks() if task.get_name().startswith(KOPFS_WATCHERS)}
        for watcher in watchers:
            if watcher.done():
                cause = None if watcher.cancelled() else watcher.exception()
                raise WatchEndedError(f"the {watcher.get_name()} has ended") from cause
        await asyncio.sleep(LOOK_SECONDS)


class NoDifferences(kopf.AnnotationsDiffBaseStorage):
    """kopf copies each object to compare it with what a handler saw last; nobody here asks, and it costs the most."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Nothing of an object."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Nothing was kept."""
        return None


def build_registry(wake: Callable[[Key, bool], None], own_writes: OwnWrites) -> kopf.OperatorRegistry:
    """Handlers that turn events of Subnets, tasks and what belongs to tasks into keys of the work queue.

    Args:
        wake: called with a key, and with whether it is mere routine: an object that was listed, of which nothing has
            happened.
        own_writes: what the passes have left as they wanted it wakes nobody.
    """
    registry = kopf.OperatorRegistry()

    def tell(key: Key, event: kopf.RawEvent) -> None:
        listed = event["type"] is None  # under an own write there may be another's, of which no watch has told
        if listed or not own_writes.has(event["object"].get("metadata") or {}):
            wake(key, listed)

    @kopf.on.event(SUBNET.group, SUBNET.plural, registry=registry)
    async def on_subnet(namespace: str | None, name: str, event: kopf.RawEvent, **_: object) -> None:
        tell((SUBNET.kind, str(namespace), name), event)

    @kopf.on.event(TASK.group, TASK.plural, registry=registry)
    async def on_task(namespace: str | None, name: str, event: kopf.RawEvent, **_: object) -> None:
        tell((TASK.kind, str(namespace), name), event)

    async def on_child(namespace: str | None, labels: Mapping[str, str], event: kopf.RawEvent, **_: object) -> None:
        tell((TASK.kind, str(namespace), labels[TASK_LABEL]), event)

    for kind in CHILDREN:
        kopf.on.event(
            kind.group, kind.version, kind.plural, labels={TASK_LABEL: kopf.PRESENT}, id=kind.plural, registry=registry
        )(on_child)

    kopf.on.login(registry=registry)(kopf.login_via_client)
    return registry


def build_settings() -> kopf.OperatorSettings:
    """Kopf without peering, scanning, postings and marks on objects."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    # kopf removes its own finalizer where no handler needs it; it must never be ours.
    settings.persistence.finalizer = "covey.dev/kopf-unused"
    settings.persistence.diffbase_storage = NoDifferences()
    for kind in CHILDREN:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = TASK_LABEL
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    # kopf's limit for silence cancels whoever takes the events, for good, when it falls due between two of them: as it
    # does in a process that was frozen. The limit of the client is enough.
    settings.watching.inactivity_timeout = math.inf
    settings.watching.connect_timeout = 10
    settings.watching.reconnect_backoff = 1.0
    # An operator that starts beside ten thousand pods must not hold all of them at once.
    settings.watching.chunk_size = 250
    settings.queueing.idle_timeout = 0.1
    settings.networking.request_timeout = 30
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = [1, 2, 4, 8, 16, 30, *[30] * 20]
    settings.process.ultimate_exiting_timeout = 20
    return settings
