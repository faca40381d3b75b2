"""`covey join` and `covey decline` against a real API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from covey_api.status import Reason
from covey_cli.main import cli
from covey_dev import golang
from covey_dev.apiserver import ApiServer

pytestmark = pytest.mark.apiserver

TASK = {
    "apiVersion": "covey.dev/v1alpha1",
    "kind": "FederatedTask",
    "metadata": {"name": "wdbc"},
    "spec": {
        "subnet": "eu",
        "bounty": {"amount": "1"},
        "program": {"image": "registry.example/wdbc:1", "entrypoint": "wdbc.program:Program"},
        "data": {"schema": "wdbc-v1"},
        "rounds": {"count": 1},
    },
}


class Site:
    """A namespace with a task, and a kubeconfig whose context names that namespace."""

    def __init__(self, server: ApiServer, directory: Path) -> None:
        self.server = server
        self.namespace = f"cli-{uuid.uuid4().hex[:8]}"
        self.kubeconfig = directory / "kubeconfig"
        server.kubectl("create", "namespace", self.namespace)
        server.kubectl("apply", "--namespace", self.namespace, "--filename", "-", stdin=json.dumps(TASK))
        self.write_kubeconfig()

    def write_kubeconfig(self, **user: str) -> None:
        content = yaml.safe_load(self.server.kubeconfig.read_text())
        content["contexts"][0]["context"]["namespace"] = self.namespace
        if user:
            content["users"][0]["user"] = user
        self.kubeconfig.write_text(yaml.safe_dump(content))

    def say(self, **conditions: tuple[str, str]) -> None:
        """Play the operator: set conditions."""
        said = [
            {"type": kind, "status": status, "reason": reason, "message": f"{reason}, in words.",
             "lastTransitionTime": "2026-11-23T12:00:00Z"}
            for kind, (status, reason) in conditions.items()
        ]  # fmt: skip
        patch = json.dumps({"status": {"conditions": said}})
        options = ["--subresource=status", "--type=merge", f"--patch={patch}"]
        self.server.kubectl("patch", "ft", "wdbc", "--namespace", self.namespace, *options)

    def covey(self, *arguments: str) -> Result:
        return CliRunner(env={"KUBECONFIG": str(self.kubeconfig)}).invoke(cli, arguments)

    def participation(self) -> Any:
        found = json.loads(self.server.kubectl("get", "ft", "wdbc", "-n", self.namespace, "-o", "json"))
        return found["spec"].get("participation")


@pytest.fixture
def site(api_server: ApiServer, tmp_path: Path) -> Iterator[Site]:
    made = Site(api_server, tmp_path)
    yield made
    api_server.kubectl("delete", "namespace", made.namespace, "--wait=false")


WAITING = {"Accepted": ("Unknown", "AwaitingApproval"), "Training": ("False", "AwaitingMembers")}
LEFT = {"Accepted": ("False", "DeclinedByPerson"), "Training": ("False", "DeclinedByPerson")}
OPEN = ("Unknown", "Pending")


def test_join_finds_the_namespace_of_the_context_and_says_what_comes_next(site: Site):
    site.say(**WAITING, Succeeded=OPEN)
    done = site.covey("join", "wdbc")
    assert done.exit_code == 0, done.output
    assert site.participation() == {"decision": "Join"}
    assert f"wdbc in namespace {site.namespace}: Join (before: no answer)." in done.output
    assert "Next: the operator sends the acceptance to the chain" in done.output


def test_an_answer_can_be_changed_and_the_data_set_is_kept(site: Site):
    site.say(**WAITING)
    for arguments in (["join", "wdbc", "--dataset", "ward-7"], ["decline", "wdbc"]):
        assert site.covey(*arguments).exit_code == 0
    assert site.participation() == {"decision": "Decline", "dataset": "ward-7"}
    again = site.covey("decline", "wdbc")
    assert "Decline, as before." in again.output
    assert "this member takes no part" in again.output


def test_kubectl_finds_it_as_a_plugin(site: Site, tmp_path: Path):
    plugin = tmp_path / "kubectl-covey"
    plugin.write_text(f"#!{sys.executable}\nfrom covey_cli.main import cli\ncli()\n")
    plugin.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    place = ["--kubeconfig", str(site.server.kubeconfig), "-n", site.namespace]
    done = subprocess.run(
        [golang.kube() / "kubectl", "covey", "join", "wdbc", *place],
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert (
        f"Look: kubectl --kubeconfig {site.server.kubeconfig} --namespace {site.namespace} get ft wdbc" in done.stdout
    )
    assert site.participation() == {"decision": "Join"}


@pytest.mark.parametrize(
    ("command", "conditions", "said"),
    [
        ("join", {}, "has not looked at the task yet"),
        ("join", {"Accepted": ("Unknown", "DatasetAmbiguous")}, "covey join wdbc --dataset NAME"),
        ("join", {"Accepted": ("False", "ImageNotAllowed")}, "declines the task whatever you answer (ImageNotAllowed)"),
        ("join", {"Accepted": ("True", "AcceptedByPolicy")}, "takes part already"),
        ("join", {**LEFT, "Succeeded": OPEN}, "the pods start again"),
        ("join", {"Accepted": ("Unknown", "RpcUnavailable")}, "when it can (RpcUnavailable)"),
        ("decline", WAITING, "takes no part"),
        ("decline", {**WAITING, "Accepted": ("True", "AcceptedByPerson")}, "takes the acceptance back"),
        (
            "decline",
            {"Accepted": ("True", "AcceptedByPerson"), "Training": ("True", "RoundsRunning")},
            "leaves the running task",
        ),
    ],
)
def test_what_happens_next_depends_on_what_the_operator_said(
    site: Site, command: str, conditions: dict[str, tuple[str, str]], said: str
):
    assert all(reason in list(Reason) for _, reason in conditions.values())
    site.say(**conditions)
    done = site.covey(command, "wdbc")
    assert done.exit_code == 0
    assert said in done.output


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ({"Succeeded": ("True", "AsExpected")}, "it has succeeded"),
        ({"Succeeded": ("False", "CancelledByPlanner")}, "it has failed (CancelledByPlanner)"),
        ({"Succeeded": ("False", "StartedWithoutUs")}, "it was started without this member"),
    ],
)
def test_a_task_that_is_no_longer_open_is_left_alone(site: Site, conditions: dict[str, tuple[str, str]], said: str):
    site.say(**conditions)
    for command in ("join", "decline"):
        done = site.covey(command, "wdbc")
        assert done.exit_code == 1
        assert f"error: wdbc is no longer open: {said}" in done.output
    assert not site.participation()


def test_a_task_that_does_not_exist_is_named_with_its_namespace(site: Site):
    done = site.covey("join", "wbdc")
    assert (done.exit_code, len(done.output.splitlines())) == (1, 1)
    assert f'there is no FederatedTask "wbdc" in namespace "{site.namespace}"' in done.output


def test_who_may_not_gets_told_what(site: Site):
    site.server.kubectl("create", "serviceaccount", "reader", "-n", site.namespace)
    subject = f"--serviceaccount={site.namespace}:reader"
    reading = ["--verb=get", "--resource=federatedtasks.covey.dev"]
    site.server.kubectl("create", "role", "reader", "-n", site.namespace, *reading)
    site.server.kubectl("create", "rolebinding", "reader", "-n", site.namespace, "--role=reader", subject)
    token = site.server.kubectl("create", "token", "reader", "-n", site.namespace).strip()
    site.write_kubeconfig(token=token)
    done = site.covey("join", "wdbc")
    assert done.exit_code == 1
    assert f"error: you may not patch FederatedTasks in namespace {site.namespace}" in done.output
    site.write_kubeconfig(token="nonsense")
    assert "does not accept your credentials" in site.covey("join", "wdbc").output
