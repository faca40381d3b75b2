"""The same clusters by kind, where a Docker engine runs: `CLUSTER=kind`.

kind brings its own network and storage class, so that only the commands for clusters are different. These few lines
have not been run by the project's own tests, whose machines have no Docker engine.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from covey_dev import paths
from covey_dev.errors import UnsupportedError
from covey_dev.process import run
from covey_dev.progress import step

_PREFIX = "covey-"


def chosen() -> bool:
    """Whether the person asked for kind.

    Raises:
        UnsupportedError: yes, but there is no kind, or no Docker engine behind the client.
    """
    if os.environ.get("CLUSTER") != "kind":
        return False
    remedy = "Start Docker, or leave CLUSTER empty: the clusters then run without Docker, as root."
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        raise UnsupportedError("CLUSTER=kind needs a running Docker engine, and `docker info` reaches none", remedy)
    if not shutil.which("kind"):
        raise UnsupportedError("kind is not installed", "Install it: `go install sigs.k8s.io/kind@v0.30.0`.")
    return True


def kubeconfig(name: str) -> Path:
    """Where `up` writes the administrator's kubeconfig."""
    return paths.state() / f"kind-{name}" / "kubeconfig"


def up(names: Sequence[str]) -> None:
    """Create the clusters that do not exist."""
    for name in names:
        if name not in _existing():
            kubeconfig(name).parent.mkdir(parents=True, exist_ok=True)
            with step(f"kind cluster {name}"):
                run(
                    "kind",
                    "create",
                    "cluster",
                    f"--name={_PREFIX}{name}",
                    f"--kubeconfig={kubeconfig(name)}",
                    "--wait=120s",
                )


def down(names: Sequence[str]) -> None:
    """Delete clusters (all without names); kind keeps no state."""
    for name in names or _existing():
        run("kind", "delete", "cluster", f"--name={_PREFIX}{name}")
        shutil.rmtree(kubeconfig(name).parent, ignore_errors=True)


def load(images: Sequence[str]) -> None:
    """Copy images of the Docker engine into every cluster."""
    if not chosen():
        raise UnsupportedError("only kind loads images", "Use `image build`: the clusters pull from the registry.")
    for name in _existing():
        run("kind", "load", "docker-image", f"--name={_PREFIX}{name}", *images)


def _existing() -> list[str]:
    listed = run("kind", "get", "clusters").split()
    return [name.removeprefix(_PREFIX) for name in listed if name.startswith(_PREFIX)]
