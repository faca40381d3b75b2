"""The chart under test, Helm, and the names of the release that the tests install."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from covey_dev.apiserver import ApiServer

CHART = Path(__file__).parents[3] / "charts" / "covey"
DEFAULT_VALUES = CHART / "ci" / "default-values.yaml"
FULL_VALUES = CHART / "ci" / "full-values.yaml"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
MONITORING = [f"--api-versions=monitoring.coreos.com/v1/{kind}" for kind in ("PodMonitor", "PrometheusRule")]
RELEASE, SYSTEM, WARD, OTHER = "covey", "covey-system", "ward", "other"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{RELEASE}"

Object = dict[str, Any]


@dataclass(frozen=True)
class Helm:
    """Helm with folders of its own.

    Attributes:
        binary: the program.
        home: folder for its caches and settings.
    """

    binary: Path
    home: Path

    def run(self, *arguments: str | Path, server: ApiServer | None = None) -> subprocess.CompletedProcess[str]:
        """Run it against a cluster, or against none; the caller looks at the exit status."""
        environment = {
            **os.environ,
            "HELM_CACHE_HOME": str(self.home),
            "HELM_CONFIG_HOME": str(self.home),
            "KUBECONFIG": str(server.kubeconfig if server else self.home / "none"),
        }
        command = [str(self.binary), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    def render(self, *options: str | Path, tests: bool = False) -> list[Object]:
        """Objects that the chart makes of some values; with `tests` also those of `helm test`."""
        skip = [] if tests else ["--skip-tests"]
        done = self.run("template", RELEASE, CHART, f"--namespace={SYSTEM}", *skip, *MONITORING, *options)
        assert done.returncode == 0, done.stderr
        return [found for found in yaml.safe_load_all(done.stdout) if found]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """The objects of one kind."""
    return [found for found in objects if found["kind"] == kind]


def the(objects: list[Object], kind: str) -> Object:
    """The only object of its kind."""
    (found,) = of_kind(objects, kind)
    return found
