"""The three clusters of the demo, once for all tests; nothing of them is left afterwards.

COVEY_KEEP_CLUSTERS=1 leaves them running, for a look at what happened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from covey_demo import machine, manifests, story
from covey_demo.cluster import Cluster
from covey_demo.members import MEMBERS, PLANNER, SYSTEM_NAMESPACE, TASK_FILE
from covey_demo.story import Stage
from covey_dev import choice, golang
from covey_dev.process import run

LOG_CHARACTERS = 40_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the clusters said when a test failed belongs to its report: afterwards they are gone."""
    report = yield
    log = getattr(call.excinfo.value, "log", "") if call.excinfo is not None else ""
    if log:
        report.sections.append(("what the clusters said", log[-LOG_CHARACTERS:]))
    return report


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    try:
        yield story.prepare()
    finally:
        if os.environ.get("COVEY_KEEP_CLUSTERS") != "1":
            machine.down()
            left = {site.name for place in choice.in_use() for site in place.known()}
            assert left.isdisjoint(member.name for member in MEMBERS)


@pytest.fixture(scope="session")
def make_task(stage: Stage) -> Callable[..., dict[str, Any]]:
    """The example's task under another name, with other terms."""
    text = TASK_FILE.read_text()

    def make(name: str, **changes: Any) -> dict[str, Any]:
        return manifests.task(text, stage.program, name=name, **changes)

    return make


@pytest.fixture
def planner(stage: Stage) -> Any:
    return stage.clusters[PLANNER.name]


@pytest.fixture(scope="session")
def helm() -> Callable[..., str]:
    """Runs a command of Helm about the release in a member's cluster; returns what it prints."""

    def run_helm(cluster: Cluster, command: str, *arguments: str | Path) -> str:
        words = command.split()
        return run(
            golang.helm(), *words, "covey", *arguments, f"--namespace={SYSTEM_NAMESPACE}", env=cluster.environment
        )

    return run_helm
