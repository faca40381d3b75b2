"""Helm, and a real API server with the chart installed."""

from collections.abc import Iterator

import pytest
from chart_release import CHART, DEFAULT_VALUES, OTHER, RELEASE, SYSTEM, WARD, Helm
from covey_dev import golang
from covey_dev.apiserver import ApiServer


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm, built on first use."""
    return Helm(golang.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def installed(helm: Helm) -> Iterator[ApiServer]:
    """A real API server (no nodes) on which a member has installed the chart to serve the namespace `ward`."""
    with ApiServer() as server:
        for namespace in (WARD, OTHER):
            server.kubectl("create", "namespace", namespace)
        options = [f"--namespace={SYSTEM}", "--create-namespace", f"--values={DEFAULT_VALUES}"]
        done = helm.run("install", RELEASE, CHART, *options, f"--set=watchNamespaces={{{WARD}}}", server=server)
        assert done.returncode == 0, done.stderr
        yield server
