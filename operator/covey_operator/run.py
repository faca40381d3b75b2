"""One operator process from start to end; also started inside tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import kopf
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from covey_operator.chains import Chains
from covey_operator.controller import Pulse, list_seconds, resync, work
from covey_operator.kinds import Key
from covey_operator.kube import Kube
from covey_operator.lease import give_back, hold_lease
from covey_operator.metrics import Metrics
from covey_operator.progress import ProgressPoller
from covey_operator.queue import WorkQueue
from covey_operator.server import serve
from covey_operator.settings import Settings
from covey_operator.shared import SharedReads
from covey_operator.standby import stand_by
from covey_operator.watch import WatchEndedError, build_registry, build_settings, heed_watchers
from covey_operator.world import World

log = logging.getLogger(__name__)


class StopRequested(Exception):
    """A signal or a test asked the operator to end."""


# Each connection has a buffer of 256 KiB for TLS (asyncio), and a pass asks for seven things side by side.
CONNECTIONS = 24


async def connect() -> ApiClient:
    """A client from the pod's service account, or from the kubeconfig."""
    configuration = Configuration()
    configuration.connection_pool_maxsize = CONNECTIONS
    # The API server is not behind a proxy; looking for one in the environment takes a thread for each request.
    configuration.client_session_kwargs = {"trust_env": False}
    try:
        config.load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    return ApiClient(configuration)


async def run(
    settings: Settings,
    stop: asyncio.Event,
    metrics: Metrics | None = None,
    progress_port: int | None = None,
    on_ready: Callable[[int], None] | None = None,
    handle_signals: Callable[[], None] | None = None,
) -> None:
    """Run the operator until `stop` is set.

    Args:
        settings: from the environment.
        stop: set it to end in order.
        metrics: series of this process; a fresh set by default.
        progress_port: where validators answer; tests have their own.
        on_ready: called with the port of the metrics once the server listens.
        handle_signals: installs the handlers that set `stop`; called again after kopf has installed its own.

    Raises:
        BaseExceptionGroup: a worker, the watcher, a mirror or the Lease failed; the process must end non-zero.
    """
    metrics = metrics if metrics is not None else Metrics()
    queue: WorkQueue[Key] = WorkQueue()
    leading = asyncio.Event()

    def wake(key: Key, routine: bool = False) -> None:
        if leading.is_set():  # a standby watches, so that it could begin at once; the first list tells it of all
            queue.add(key, routine)

    def wake_after(key: Key, delay_seconds: float) -> None:
        if leading.is_set():
            queue.add_after(key, delay_seconds)

    metrics.watch_queue(lambda: float(len(queue)), lambda: queue.oldest_pending_seconds)
    pulse = Pulse(
        list_seconds(settings),
        lambda: queue.stalled_seconds,
        lambda: chains.stalled_seconds if chains is not None else 0.0,
    )
    options = {} if progress_port is None else {"port": progress_port}
    progress = ProgressPoller(settings.progress_poll_seconds, wake_after, **options)
    api, lease_api = await connect(), await connect()  # a renewal must not wait behind a thousand reads
    chains: Chains | None = None
    in_order = False
    try:
        async with serve(settings.metrics_port, metrics, pulse, leading.is_set) as port, asyncio.TaskGroup() as group:
            if on_ready is not None:
                on_ready(port)
            group.create_task(_stop(stop), name="stop")
            chains = Chains(group, wake_after, settings.chain_poll_seconds, metrics)
            kube = Kube(api, metrics, settings.pod_name)
            world = World(
                settings=settings,
                kube=kube,
                shared=SharedReads(kube),
                chains=chains,
                progress=progress,
                metrics=metrics,
                wake=wake,
            )
            registry = build_registry(wake, kube.own_writes)
            group.create_task(heed_watchers(), name="watchers")
            group.create_task(_watch(settings, registry, handle_signals), name="watch")
            if settings.leader_election:
                group.create_task(hold_lease(lease_api, settings.namespace, settings.pod_name, leading), name="lease")
                group.create_task(stand_by(world, leading, pulse), name="stand by")
            else:
                leading.set()
            await leading.wait()
            metrics.leader.set(1)
            pulse.start()
            for index in range(settings.reconcile_workers):
                group.create_task(work(world, queue), name=f"worker {index}")
            group.create_task(resync(world, queue, pulse), name="resync")
            group.create_task(world.progress.run(), name="progress")
    except BaseExceptionGroup as failures:
        if not asked_to_stop(failures):
            raise
        log.info("stopped")
        in_order = True
    finally:
        queue.close()
        if chains is not None:
            await chains.close()
        await progress.close()
        if in_order and leading.is_set() and settings.leader_election:
            await give_back(lease_api, settings.namespace, settings.pod_name)
        for client in (api, lease_api):
            await client.close()  # type: ignore[no-untyped-call]


def asked_to_stop(failures: BaseExceptionGroup) -> bool:
    """Whether a wish to stop came first. What failed after it was cut off, and the next operator does it anew."""
    first, *others = failures.exceptions  # a TaskGroup keeps them in the order in which they came
    if not isinstance(first, StopRequested):
        return False
    for error in others:
        log.warning("while it stopped: %s: %s", type(error).__name__, error)
    return True


async def _stop(stop: asyncio.Event) -> None:
    await stop.wait()
    raise StopRequested


async def _watch(
    settings: Settings, registry: kopf.OperatorRegistry, handle_signals: Callable[[], None] | None
) -> None:
    scope: dict[str, Any] = (
        {"namespaces": list(settings.watch_namespaces)} if settings.watch_namespaces else {"clusterwide": True}
    )
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(registry=registry, settings=build_settings(), **scope)
    if handle_signals is not None:
        handle_signals()
    await kopf.run_tasks(tasks, ignored=others)
    raise WatchEndedError("the watcher of the Kubernetes API has ended")
