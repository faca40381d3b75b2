"""The head of a site's Ray cluster and the driver of its round loop: `python -m covey_trainer.head`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from covey_exchange.proto.driver_pb2 import Finish
from pydantic import ValidationError

from covey_trainer.driver import Driver, write_termination_message
from covey_trainer.errors import WorkersFailed, WorkersMissing
from covey_trainer.process import run_to_exit, start_logging
from covey_trainer.ray_train import RayExecutor
from covey_trainer.settings import (
    FIXED_PORTS,
    GCS_PORT,
    RAY_ENVIRONMENT,
    WORKER_RESOURCE,
    HeadSettings,
    RayAuth,
    SettingsError,
    explain,
)

log = logging.getLogger(__name__)

STOP_SECONDS = 10.0
LOG_EVERY_SECONDS = 15.0
RAY = (sys.executable, "-m", "covey_trainer.ray_node")


def command(settings: HeadSettings) -> list[str]:
    """The command line that starts Ray's head without CPUs and GPUs, so that no program runs beside the driver."""
    return [
        *RAY,
        "start",
        "--head",
        "--block",
        f"--node-ip-address={settings.pod_ip}",
        f"--port={GCS_PORT}",
        "--num-cpus=0",
        "--num-gpus=0",
        f"--object-store-memory={settings.object_store_bytes}",
        "--include-dashboard=false",
        "--no-monitor",  # of an autoscaler; the operator is what scales
        "--disable-usage-stats",
        *FIXED_PORTS,
    ]


@contextmanager
def ray_head(settings: HeadSettings) -> Iterator[None]:
    """Run Ray's head as a child; if it dies by itself, this process ends with a termination message."""
    stopping = threading.Event()
    child = subprocess.Popen(command(settings), env={**os.environ, **RAY_ENVIRONMENT}, start_new_session=True)

    def watch() -> None:
        status = child.wait()
        if not stopping.is_set():
            error = WorkersFailed(
                f"Ray's head ended with status {status}.",
                "See the log of container ray-head; too little memory (OOMKilled) is the usual cause.",
            )
            log.error("%s", error)
            write_termination_message(settings.termination_log, error)
            os._exit(1)  # the main thread may hang in a call to the Ray that is gone

    watcher = threading.Thread(target=watch, name="ray-head", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stopping.set()
        child.send_signal(signal.SIGTERM)
        watcher.join(STOP_SECONDS)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)


def connect(settings: HeadSettings) -> None:
    """Connect this process to its Ray head once that answers, and wait for all workers.

    Raises:
        WorkersMissing: Ray's head or a worker is not there in time.
    """
    deadline = time.monotonic() + settings.workers_timeout_seconds
    address = f"{settings.pod_ip}:{GCS_PORT}"
    while True:
        try:
            ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING)
            break
        except ConnectionError as error:
            if time.monotonic() > deadline:
                raise WorkersMissing(f"Ray's head at {address} does not answer.", "See its log.") from error
            time.sleep(0.5)
    known, logged = -1, 0.0
    while (present := workers_present()) < settings.workers:
        now = time.monotonic()
        if now > deadline:
            raise WorkersMissing(
                f"{present} of {settings.workers} workers are there after {settings.workers_timeout_seconds:.0f} s.",
                "Look at the worker pods: image pull, resources of the nodes, volume, NetworkPolicy.",
            )
        if present != known or now - logged > LOG_EVERY_SECONDS:
            log.info("%d of %d workers are there; waiting for the others", present, settings.workers)
            known, logged = present, now
        time.sleep(0.5)
    log.info("all %d workers are there", settings.workers)


def workers_present() -> int:
    """Live worker nodes that have joined the Ray cluster."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return sum(1 for node in nodes if node["Alive"] and WORKER_RESOURCE in node["Resources"])


def drive(settings: HeadSettings) -> Finish:
    """Run Ray's head and the round loop until the validator says Finish."""
    resources = {"CPU": settings.ray_cpus, WORKER_RESOURCE: 1.0}
    if settings.gpus_per_worker:
        resources["GPU"] = float(settings.gpus_per_worker)
    with ray_head(settings):
        connect(settings)
        executor = RayExecutor(settings.workers, resources, settings.data)
        try:
            return Driver(executor, settings).run()
        finally:
            executor.close()
            ray.shutdown()


def main() -> None:
    """Entry point; exits 0 after Finish, 1 with a termination message on failure, 143 on SIGTERM."""
    start_logging()
    try:
        settings = HeadSettings()
        RayAuth().check()
    except ValidationError as error:
        sys.exit(f"environment: {explain(error)}")
    except SettingsError as error:
        sys.exit(str(error))
    run_to_exit(lambda: drive(settings), settings.termination_log)


if __name__ == "__main__":
    main()
