"""kopf is a watcher here and nothing more: its traps are closed by settings, and it has no reason to write."""

from __future__ import annotations

from covey_operator.kube import OwnWrites
from covey_operator.plan import names
from covey_operator.watch import build_registry, build_settings


def test_kopf_has_no_reason_to_write():
    """Only event handlers: no finalizer, no annotation, no progress, no daemon, no index that outlives its object."""
    registry = build_registry(lambda key, routine: None, OwnWrites())
    assert len(list(registry._watching.get_all_handlers())) == 3
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
    assert settings.watching.inactivity_timeout is not None
    assert sum(settings.networking.error_backoffs) >= 300
    assert settings.networking.enforce_retry_after
    assert settings.queueing.worker_limit is None
    assert settings.process.ultimate_exiting_timeout < 30, "less than the pod's grace"


def test_pods_are_selected_by_the_server():
    assert build_settings().watching.label_selectors["", "v1", "pods"] == names.TASK
