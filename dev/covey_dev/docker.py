"""The Docker engine, through its own command line."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from covey_dev.errors import UnsupportedError
from covey_dev.process import run

Object = dict[str, Any]
LABEL = "dev.covey"  # on all that we make in the engine, but not on kind's nodes, which have kind's own


def require() -> None:
    """Raise UnsupportedError unless an engine answers."""
    remedy = "Start Docker, or leave CLUSTER empty: the clusters then run without Docker, as root."
    if not shutil.which("docker"):
        raise UnsupportedError("CLUSTER=kind needs a Docker engine, and there is no program `docker`", remedy)
    if subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        raise UnsupportedError("CLUSTER=kind needs a running Docker engine, and `docker info` reaches none", remedy)


def docker(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    remedy: str = "Read Docker's message above, correct the cause, and run the same command again.",
) -> str:
    """Run docker and return what it prints on standard output."""
    return run("docker", *arguments, env=env, remedy=remedy)


def container(name: str) -> Object | None:
    """What the engine knows of a container, running or not; None if there is none."""
    return _inspect("container", name)


def network(name: str) -> Object | None:
    """What the engine knows of a network; None if there is none."""
    return _inspect("network", name)


def running(container: Object | None) -> bool:
    """Whether an inspected container runs."""
    return container is not None and bool(container["State"]["Running"])


def address(container: Object | None, network: str) -> str:
    """IPv4 address of an inspected container on a network; empty if it has none, as when it is stopped."""
    networks = (container or {}).get("NetworkSettings", {}).get("Networks") or {}
    return str((networks.get(network) or {}).get("IPAddress") or "")


def containers(*filters: str) -> list[Object]:
    """All containers, running or not, that pass every filter (as of `docker ps --filter`)."""
    asked = [f"--filter={condition}" for condition in filters]
    names = docker("ps", "--all", "--no-trunc", "--quiet", *asked).split()
    found: list[Object] = json.loads(docker("container", "inspect", *names)) if names else []
    return found


def _inspect(kind: str, name: str) -> Object | None:
    done = subprocess.run(["docker", kind, "inspect", name], capture_output=True, text=True)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None
