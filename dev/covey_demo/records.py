"""Deals the data set out: a part for each member's cluster, and the common test set."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from covey_dev import paths
from covey_dev.agent import VOLUME_MODE
from covey_dev.process import run

from covey_demo.cluster import Cluster
from covey_demo.manifests import DATA_CLAIM, OUTPUT_CLAIM
from covey_demo.members import EXAMPLE, MEMBERS


def test_set() -> Path:
    """Folder of the records that nobody trains on."""
    return _dealt() / "test"


def deal(clusters: Mapping[str, Cluster]) -> None:
    """Write every member's records into its own cluster, and make the directories of the output volumes."""
    run(sys.executable, EXAMPLE / "make_data.py", "--out", _dealt(), "--members", str(len(MEMBERS)))
    for number, member in enumerate(MEMBERS, start=1):
        cluster = clusters[member.name]
        shutil.copytree(_dealt() / f"member-{number}", cluster.volume(DATA_CLAIM), dirs_exist_ok=True)
        models = cluster.volume(OUTPUT_CLAIM)
        if not models.exists():
            models.mkdir(parents=True)
            models.chmod(VOLUME_MODE)


def _dealt() -> Path:
    return paths.cache() / "demo/data"
