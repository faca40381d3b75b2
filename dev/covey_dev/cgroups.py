"""The cgroup under which all pods of one cluster live; several kubelets on one machine would else delete each other's.

Both versions are handled: 1 (also hybrid), with a directory per controller, and 2, with a single one.
"""

import time
from collections.abc import Collection
from pathlib import Path

from covey_dev.errors import NotReadyError

_ROOT = Path("/sys/fs/cgroup")
_CONTROLLERS = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")
_EMPTY_SECONDS = 10.0


def name(cluster: str) -> str:
    """The cgroup of a cluster, as the kubelet's `cgroupRoot` names it."""
    return f"/covey-{cluster}"


def create(cluster: str, root: Path = _ROOT) -> None:
    """Make the cgroup with every controller that the kernel has."""
    if (root / "cgroup.controllers").exists():
        group = root / name(cluster).lstrip("/")
        _delegate(root)
        group.mkdir(exist_ok=True)
        _delegate(group)
        return
    for controller in _hierarchies(root):
        if controller.name == "unified":  # the version 2 tree of a hybrid system has no controllers
            continue
        group = controller / name(cluster).lstrip("/")
        group.mkdir(exist_ok=True)
        if controller.name == "cpuset":
            # A new cpuset is empty, and nothing can run in an empty one.
            for resource in ("cpuset.mems", "cpuset.cpus"):
                (group / resource).write_text((controller / resource).read_text())


def remove(cluster: str, root: Path = _ROOT) -> None:
    """Remove the cgroup, waiting for its last processes to go.

    Raises:
        NotReadyError: processes are still in it after 10 s.
    """
    tops = [root] if (root / "cgroup.controllers").exists() else _hierarchies(root)
    for top in tops:
        group = top / name(cluster).lstrip("/")
        if group.exists():
            _remove_tree(group)


def remove_abandoned(running: Collection[str], root: Path = _ROOT) -> None:
    """Remove the cgroups of clusters that neither run nor are known any more, as after a killed run.

    One in which a process lives stays: somebody uses it.
    """
    for group in existing(root):
        lives = any(processes.read_text().strip() for processes in group.rglob("cgroup.procs"))
        if group.name.removeprefix("covey-") not in running and not lives:
            _remove_tree(group)


def existing(root: Path = _ROOT) -> list[Path]:
    """Cgroup directories of any cluster, of this or an earlier run."""
    return sorted([*root.glob("covey-*"), *root.glob("*/covey-*")])


def _hierarchies(root: Path) -> list[Path]:
    # Links name joint controllers a second time.
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink()]


def _delegate(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{controller}" for controller in _CONTROLLERS if controller in available)
    (group / "cgroup.subtree_control").write_text(wanted)


def _remove_tree(group: Path) -> None:
    deadline = time.monotonic() + _EMPTY_SECONDS
    for directory in sorted([group, *(path for path in group.rglob("*") if path.is_dir())], reverse=True):
        while True:
            try:
                directory.rmdir()
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise NotReadyError(
                        f"cgroup {directory} still holds processes", f"See {directory}/tasks."
                    ) from error
                time.sleep(0.05)
