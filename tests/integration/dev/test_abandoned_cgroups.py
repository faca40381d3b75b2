"""Cgroups that a killed run left behind are removed, those that somebody uses are not (root, real cgroups)."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from covey_dev import cgroups

pytestmark = pytest.mark.cluster

EMPTY, USED, RUNNING = "left-empty", "left-used", "left-runs"


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process of a cluster whose state is forgotten."""
    for name in (EMPTY, USED, RUNNING):
        cgroups.create(name)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            for group in groups(USED):
                (group / "cgroup.procs").write_text(str(process.pid))
            yield process.pid
        finally:
            process.kill()
            process.wait()
            for name in (EMPTY, USED, RUNNING):
                cgroups.remove(name)


def groups(cluster: str) -> list[Path]:
    return [path for path in cgroups.existing() if path.name == f"covey-{cluster}"]


def test_only_what_nobody_uses_is_removed(sleeper: int) -> None:
    nested = groups(EMPTY)[0] / "pods"
    nested.mkdir()
    cgroups.remove_abandoned({RUNNING})
    assert (groups(EMPTY), bool(groups(USED)), bool(groups(RUNNING))) == ([], True, True)
    os.kill(sleeper, 0)  # it lives
