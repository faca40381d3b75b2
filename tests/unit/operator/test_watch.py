"""kopf is a watcher here and nothing more: its traps are closed by settings, and it has no reason to write."""

from __future__ import annotations

import asyncio

import pytest
from covey_operator.kinds import SUBNET
from covey_operator.kube import OwnWrites
from covey_operator.plan import names
from covey_operator.watch import CHILDREN, WatchEndedError, build_registry, build_settings, heed_watchers
from kopf._cogs.clients import api
from kopf._cogs.clients.watching import watch_objs
from kopf._cogs.structs.references import Resource


def test_kopf_has_no_reason_to_write():
    """Only event handlers: no finalizer, no annotation, no progress, no daemon, no index that outlives its object."""
    registry = build_registry(lambda key, routine: None, OwnWrites())
    assert len(list(registry._watching.get_all_handlers())) == 6
    for others in (registry._changing, registry._spawning, registry._indexing, registry._webhooks):
        assert list(others.get_all_handlers()) == []


def test_no_object_of_somebody_else_can_pause_it():
    settings = build_settings()
    assert settings.peering.standalone
    assert not settings.posting.enabled


def test_its_finalizer_is_not_ours():
    assert build_settings().persistence.finalizer != names.FINALIZER


def test_watches_end_and_begin_again_and_outlast_a_restart_of_the_api_server():
    settings = build_settings()
    assert settings.watching.server_timeout < settings.watching.client_timeout
    assert sum(settings.networking.error_backoffs) >= 300
    assert settings.networking.enforce_retry_after
    assert settings.queueing.worker_limit is None
    assert settings.process.ultimate_exiting_timeout < 30, "less than the pod's grace"


def test_children_are_selected_by_the_server():
    selectors = build_settings().watching.label_selectors
    assert {selectors[kind.group, kind.version, kind.plural] for kind in CHILDREN} == {names.TASK}


@pytest.mark.parametrize(("limit", "survives"), [(None, True), (60.0, False)], ids=["ours", "with a limit for silence"])
def test_who_takes_the_events_of_a_process_that_was_frozen_goes_on(monkeypatch, limit, survives):
    """Frozen between two events for longer than kopf's limit for silence, its watcher would be cancelled for good."""
    settings = build_settings()
    if limit is not None:
        settings.watching.inactivity_timeout = limit

    async def stream(**_):
        for name in ("first", "second"):
            yield {"type": "MODIFIED", "object": {"metadata": {"name": name}}}

    async def watcher(loop):
        taken = []
        paused = loop.create_future()
        resource = Resource(SUBNET.group, SUBNET.version, SUBNET.plural, namespaced=True)
        async for event in watch_objs(
            settings=settings, resource=resource, namespace="here", operator_pause_waiter=paused
        ):
            taken.append(event["object"]["metadata"]["name"])
            if taken == ["first"]:
                real = loop.time
                monkeypatch.setattr(loop, "time", lambda real=real: real() + 100.0)
                await asyncio.sleep(0.01)
        return taken

    monkeypatch.setattr(api, "stream", stream)
    loop = asyncio.new_event_loop()
    try:
        if survives:
            assert loop.run_until_complete(watcher(loop)) == ["first", "second"]
        else:
            with pytest.raises(asyncio.CancelledError):
                loop.run_until_complete(watcher(loop))
    finally:
        loop.close()


@pytest.mark.parametrize("how", ["cancelled", "failed", "returned"])
async def test_a_watcher_that_ends_is_heeded(how):
    async def watch():
        if how == "failed":
            raise ValueError("no right")
        if how == "cancelled":
            await asyncio.Event().wait()

    heed = asyncio.create_task(heed_watchers())
    other = asyncio.create_task(asyncio.sleep(60), name="watcher for pods")
    watcher = asyncio.create_task(watch(), name="watcher for subnets")
    await asyncio.sleep(0)
    if how == "cancelled":
        watcher.cancel()
    with pytest.raises(WatchEndedError, match="the watcher for subnets has ended") as caught:
        await heed
    assert isinstance(caught.value.__cause__, ValueError) == (how == "failed")
    other.cancel()
