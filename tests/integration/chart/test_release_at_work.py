"""An installed release whose operator runs: under the rights that the chart grants, and with the environment it sets.

No pods are run here: the operator is a process, under the ServiceAccount of the release.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from chart_release import CHART, DEFAULT_VALUES, OTHER, RELEASE, SYSTEM, WARD, Helm, Object, the
from covey_dev import golang
from covey_dev.apiserver import ApiServer
from covey_dev.operator import OperatorProcess
from covey_dev.process import until

pytestmark = pytest.mark.apiserver

ROOT = CHART.parents[1]
SUBNET = ROOT / "tests/integration/crds/accepted/subnet-minimal.yaml"
TASK = ROOT / "tests/integration/crds/accepted/task-minimal.yaml"
MODES = {"namespaced": [f"--set=watchNamespaces={{{WARD}}}"], "cluster-wide": ["--set=watchAllNamespaces=true"]}
HELD = ["covey.dev/cleanup"]


@dataclass(frozen=True)
class Installed:
    """A release on a server of its own.

    Attributes:
        objects: what was rendered for it, its `helm test` included.
    """

    server: ApiServer
    objects: list[Object]
    directory: Path

    def environment(self, kind: str) -> dict[str, str]:
        """Variables of the container that the release makes."""
        found = the(self.objects, kind)["spec"]
        (container,) = found.get("template", {"spec": found})["spec"]["containers"]
        return {each["name"]: each.get("value", each["name"].lower().replace("_", "-")) for each in container["env"]}

    def process_environment(self, kind: str, account: str) -> dict[str, str]:
        """The same for a process outside of a pod, with a token of the account."""
        token = self.server.kubectl("create", "token", account, f"--namespace={SYSTEM}").strip()
        content = yaml.safe_load(self.server.kubeconfig.read_text())
        content["users"][0]["user"] = {"token": token}
        kubeconfig = self.directory / f"{account}.kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(content))
        return {
            **os.environ,
            **self.environment(kind),
            "COVEY_NAMESPACE": SYSTEM,
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("crds", "contracts", "operator")),
        }

    @contextmanager
    def operator(self) -> Iterator[OperatorProcess]:
        """The operator; nothing may be forbidden to it."""
        environment = {**self.process_environment("Deployment", RELEASE), "COVEY_METRICS_PORT": "0"}
        process = OperatorProcess(environment, self.directory / "operator.log")
        try:
            yield process
            assert process.running, process.text()
            assert process.terminate() == 0, process.text()
        finally:
            if process.running:
                process.kill()
        assert "forbidden: User" not in process.text(), process.text()

    def check(self, **settings: str) -> subprocess.CompletedProcess[str]:
        """What the pod of `helm test` does."""
        environment = {**self.process_environment("Pod", f"{RELEASE}-check"), **settings}
        return subprocess.run(
            [sys.executable, "-m", "covey_operator.check"], env=environment, capture_output=True, text=True
        )

    def get(self, kind: str, name: str, namespace: str) -> Object | None:
        printed = self.server.kubectl("get", kind, name, f"-n{namespace}", "--ignore-not-found", "--output=json")
        return json.loads(printed) if printed.strip() else None

    def ready_reason(self, namespace: str) -> str:
        """Reason of the condition Ready of the Subnet there; empty while nobody has looked at it."""
        conditions = ((self.get("subnet", "minimal", namespace) or {}).get("status") or {}).get("conditions", [])
        return next((each["reason"] for each in conditions if each["type"] == "Ready"), "")


@pytest.fixture(scope="module", params=[False, True], ids=["newest", "oldest"])
def server(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    """An API server at either end of the supported range, with two namespaces."""
    with ApiServer(oldest=request.param) as started:
        for namespace in (WARD, OTHER):
            started.kubectl("create", "namespace", namespace)
        yield started


@pytest.fixture
def install(server: ApiServer, helm: Helm, tmp_path: Path) -> Iterator[Callable[[str], Installed]]:
    """Installs the chart in one of its modes; everything is removed afterwards, but the definitions."""

    def run(mode: str) -> Installed:
        options = [f"--namespace={SYSTEM}", f"--values={DEFAULT_VALUES}", *MODES[mode]]
        done = helm.run("install", RELEASE, CHART, "--create-namespace", *options, server=server)
        assert done.returncode == 0, done.stderr
        objects = helm.render(f"--values={DEFAULT_VALUES}", *MODES[mode], tests=True)
        return Installed(server, objects, tmp_path)

    yield run
    helm.run("uninstall", RELEASE, f"--namespace={SYSTEM}", "--ignore-not-found", server=server)
    server.kubectl("delete", "lease", "covey-operator", f"--namespace={SYSTEM}", "--ignore-not-found")


@pytest.fixture
def subnets(server: ApiServer) -> Iterator[Callable[[], None]]:
    """Applies a Subnet without a wallet to both namespaces."""

    def apply() -> None:
        for namespace in (WARD, OTHER):
            server.kubectl("apply", f"--namespace={namespace}", f"--filename={SUBNET}")

    yield apply
    for namespace in (WARD, OTHER):
        if server.kubectl("get", "subnet", "-n", namespace, "--output=name").strip():
            let_go(server, namespace)
            server.kubectl("delete", "subnets,federatedtasks", "--all", "-n", namespace, "--timeout=30s")


@pytest.mark.parametrize("mode", MODES)
def test_the_operator_works_where_the_release_says(
    install: Callable[[str], Installed], subnets: Callable[[], None], mode: str
):
    release = install(mode)
    subnets()
    with release.operator():
        until(lambda: release.ready_reason(WARD) != "", "a condition in the ward", 60, "")
        if mode == "cluster-wide":
            until(lambda: release.ready_reason(OTHER) != "", "a condition elsewhere", 60, "")
        assert (release.ready_reason(OTHER) != "") == (mode == "cluster-wide")


def test_helm_test_tells_whether_the_operator_is_at_work(install: Callable[[str], Installed]):
    release = install("namespaced")
    found = [each for each in release.objects if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    hooks = [each for each in found if each["kind"] != "Pod"]
    release.server.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(hooks))
    # The namespace of the demo's members is restricted; the pod passes.
    release.server.kubectl("label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted", "--overwrite")
    create = ["create", "--dry-run=server", "--validate=strict", "--filename=-"]
    release.server.kubectl(*create, stdin=json.dumps(the(found, "Pod")))

    before = release.check(COVEY_CHECK_SECONDS="0")
    assert before.returncode == 1
    assert "0 of 1 pods of the operator are ready" in before.stderr
    assert "nobody holds the Lease" in before.stderr

    with release.operator():
        # Nothing runs pods here, so the test says in a node's place that the pod is ready.
        pod = release.server.kubectl("get", "pods", f"-n{SYSTEM}", "--output=name").strip()
        state = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        patch = f"--patch={json.dumps({'status': state})}"
        release.server.kubectl("patch", pod, f"-n{SYSTEM}", "--subresource=status", "--type=merge", patch)
        during = release.check(COVEY_CHECK_SECONDS="60")
        assert during.returncode == 0, during.stderr
    release.server.kubectl("delete", "--filename=-", stdin=yaml.safe_dump_all(hooks))


EARLIER = ROOT / "tests/e2e/releases/covey-0.1.0.tgz"


def test_an_upgrade_from_the_earlier_release_and_the_way_back_keep_what_is_there(
    server: ApiServer, helm: Helm, install: Callable[[str], Installed], subnets: Callable[[], None]
):
    def chart() -> str:
        return server.kubectl(
            "get", "deployment", RELEASE, f"-n{SYSTEM}", "--output=jsonpath={.metadata.labels.helm\\.sh/chart}"
        )

    def uids() -> str:
        return server.kubectl("get", "subnets", "--all-namespaces", "--output=jsonpath={.items[*].metadata.uid}")

    place = f"--namespace={SYSTEM}"
    options = [place, "--create-namespace", f"--values={DEFAULT_VALUES}", *MODES["namespaced"]]
    assert helm.run("install", RELEASE, EARLIER, *options, server=server).returncode == 0
    assert chart() == EARLIER.stem
    subnets()
    before = uids()

    done = helm.run("upgrade", RELEASE, CHART, place, "--reset-then-reuse-values", server=server)
    assert done.returncode == 0, done.stderr
    assert (chart() != EARLIER.stem, uids()) == (True, before)
    values = yaml.safe_load(helm.run("get", "values", RELEASE, place, "--output=yaml", server=server).stdout)
    assert values["watchNamespaces"] == [WARD]

    done = helm.run("rollback", RELEASE, place, server=server)
    assert done.returncode == 0, done.stderr
    assert (chart(), uids()) == (EARLIER.stem, before)


PAGE = (ROOT / "docs/how-to/remove.md").read_text()


def let_go(server: ApiServer, namespace: str) -> None:
    """Run what the page says for objects that nobody will finish."""
    (command,) = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "finalizers" in block]
    path = os.pathsep.join([str(golang.kube()), os.environ["PATH"]])
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig), "PATH": path}
    script = command.replace("NAMESPACE", namespace)
    done = subprocess.run(["bash", "-ec", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def orphaned(install: Callable[[str], Installed], subnets: Callable[[], None], helm: Helm) -> Installed:
    """A Subnet and a task that were deleted when the release and its operator were gone; they wait."""
    release = install("namespaced")
    subnets()
    release.server.kubectl("apply", f"--namespace={WARD}", f"--filename={TASK}")

    def held(kind: str) -> bool:
        return (release.get(kind, "minimal", WARD) or {})["metadata"].get("finalizers") == HELD

    with release.operator():
        until(lambda: held("subnet") and held("ft"), "finalizers", 60, "")
    done = helm.run("uninstall", RELEASE, f"--namespace={SYSTEM}", "--wait", server=release.server)
    assert done.returncode == 0, done.stderr
    release.server.kubectl("delete", "subnets,federatedtasks", "--all", f"--namespace={WARD}", "--wait=false")
    for kind in ("subnet", "ft"):
        assert (release.get(kind, "minimal", WARD) or {})["metadata"]["deletionTimestamp"]
    return release


def none_left(release: Installed) -> bool:
    return release.server.kubectl("get", "subnets,federatedtasks", f"-n{WARD}", "--output=name").strip() == ""


def test_what_was_deleted_after_the_operator_goes_when_it_is_installed_again(
    orphaned: Installed, install: Callable[[str], Installed]
):
    with install("namespaced").operator():
        until(lambda: none_left(orphaned), "both are gone", 60, "")


HEAD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "held", "labels": {"covey.dev/task": "minimal"}, "finalizers": ["covey.dev/report"]},
    "spec": {"containers": [{"name": "ray-head", "image": "registry.example/covey/trainer"}]},
}


def test_what_was_deleted_after_the_operator_can_be_let_go_by_hand(orphaned: Installed):
    orphaned.server.kubectl("create", f"--namespace={WARD}", "--filename=-", stdin=json.dumps(HEAD))
    orphaned.server.kubectl("delete", "pod", "held", f"--namespace={WARD}", "--wait=false")
    assert orphaned.get("pod", "held", WARD) is not None
    let_go(orphaned.server, WARD)
    until(lambda: none_left(orphaned) and orphaned.get("pod", "held", WARD) is None, "all are gone", 30, "")


def test_the_page_removes_things_in_the_order_that_works():
    first = next(block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL))
    words = ["delete federatedtasks", "delete subnets", "helm uninstall", "delete crd"]
    assert sorted(words, key=first.index) == words
