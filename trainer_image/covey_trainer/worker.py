"""One worker node of a site's Ray cluster: `python -m covey_trainer.worker` waits for the head and becomes Ray."""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from typing import NoReturn

from pydantic import ValidationError

from covey_trainer.errors import HeadMissing
from covey_trainer.process import start_logging
from covey_trainer.settings import (
    FIXED_PORTS,
    GCS_PORT,
    RAY_ENVIRONMENT,
    WORKER_RESOURCE,
    RayAuth,
    SettingsError,
    WorkerSettings,
    explain,
)

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 15.0


def command(settings: WorkerSettings) -> list[str]:
    """The command line that joins the site's Ray cluster."""
    return [
        sys.executable,
        "-m",
        "covey_trainer.ray_node",
        "start",
        "--block",
        f"--address={settings.head_ip}:{GCS_PORT}",
        f"--node-ip-address={settings.pod_ip}",
        f"--num-cpus={settings.ray_cpus}",
        f"--num-gpus={settings.gpus_per_worker}",
        f'--resources={{"{WORKER_RESOURCE}": 1}}',
        f"--object-store-memory={settings.object_store_bytes}",
        "--disable-usage-stats",
        *FIXED_PORTS,
    ]


def wait_for_head(settings: WorkerSettings) -> None:
    """Return when the head's port accepts a connection.

    Raises:
        HeadMissing: it does not in time.
    """
    seconds = settings.head_timeout_seconds
    deadline = time.monotonic() + seconds
    logged = 0.0
    while True:
        try:
            socket.create_connection((settings.head_ip, GCS_PORT), timeout=2).close()
            return
        except OSError as error:
            now = time.monotonic()
            if now > deadline:
                raise HeadMissing(
                    f"No Ray head at {settings.head_ip}:{GCS_PORT} after {seconds:.0f} s ({error}).",
                    "See the log of container ray-head, and the NetworkPolicies.",
                ) from error
            if now - logged > LOG_EVERY_SECONDS or not logged:
                log.info("waiting for the head at %s:%d (%s)", settings.head_ip, GCS_PORT, error)
                logged = now
            time.sleep(0.3)


def main() -> NoReturn:
    """Entry point; replaces this process by Ray's."""
    start_logging()
    try:
        settings = WorkerSettings()
        RayAuth().check()
        wait_for_head(settings)
    except ValidationError as error:
        sys.exit(f"environment: {explain(error)}")
    except (SettingsError, HeadMissing) as error:
        sys.exit(str(error))
    arguments = command(settings)
    os.execve(arguments[0], arguments, {**os.environ, **RAY_ENVIRONMENT})  # noqa: S606


if __name__ == "__main__":
    main()
