"""A task that runs for a while: what its workers can reach, the loss of a head, and its end without traces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from covey_chain.signing import Domain
from covey_demo import ledger, outcome, progress, story
from covey_demo.cluster import Cluster
from covey_demo.members import AUTOMATIC, CHART, MEMBERS, NAMESPACE, PLANNER, SYSTEM_NAMESPACE
from covey_demo.story import Stage
from covey_dev.process import until
from witness import Witness

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]

ROUNDS = 250  # a quiet machine plays two or three in a second, and the tests before the lost head take a while
EARLIER = Path(__file__).parent / "releases/covey-0.1.0.tgz"
CHILDREN = "pods,services,configmaps,secrets,persistentvolumeclaims,networkpolicies"

READY = ("Ready", "True")

PROBE = """
import json, socket, sys
answers = {}
for name, (kind, host, port) in json.loads(sys.argv[1]).items():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as s:
        s.settimeout(3)
        try:
            s.connect((host, port))
            if kind == "udp":
                s.send(bytes.fromhex("00010100000100000000000007636c7573746572056c6f63616c0000010001"))
                s.recv(512)
            answers[name] = "open"
        except OSError as error:
            answers[name] = type(error).__name__
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Running:
    task_id: str
    names: dict[str, str]


@pytest.fixture(scope="module")
def earlier_release(stage: Stage, helm: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A member that has installed the release before this one, with the same values; its Subnet stays meanwhile."""
    cluster = stage.clusters[AUTOMATIC.name]
    values = tmp_path_factory.mktemp("release") / "values.yaml"
    values.write_text(helm(cluster, "get values", "--output=yaml"))
    helm(cluster, "uninstall", "--wait", "--timeout=120s")
    assert cluster.objects("deployments", SYSTEM_NAMESPACE) == []
    helm(cluster, "install", EARLIER, f"--values={values}", "--wait", "--timeout=180s")
    return cluster


@pytest.fixture(scope="module")
def running(stage: Stage, make_task: Callable[..., dict[str, Any]], earlier_release: Cluster) -> Iterator[Running]:
    task = make_task("long")
    task["spec"]["rounds"] |= {"count": ROUNDS, "settleEvery": 30}
    # Most rounds come after the model has learnt; then honest members may be removed (docs/explanation/incentives.md).
    task["spec"]["incentives"] = {"shadowEpochs": ROUNDS}
    task_id = story.publish(stage, task)
    story.join(stage, task_id)
    for member in MEMBERS:
        story.await_task(stage, member, task_id, lambda found: int(progress.status(found).get("round") or 0) >= 1, 600)
    names = {
        name: found["metadata"]["name"] for name, found in story.tasks_of(stage, task_id).items() if found is not None
    }
    yield Running(task_id, names)
    for name, cluster in stage.clusters.items():
        cluster.kubectl("delete", "ft", names[name], f"--namespace={NAMESPACE}", "--ignore-not-found")


def pod(stage: Stage, member: str, name: str) -> dict[str, Any]:
    found = stage.clusters[member].get("pod", name)
    assert found is not None, f"{member} has no pod {name}"
    return found


def probe(stage: Stage, member: str, worker: str, targets: dict[str, tuple[str, str, int]]) -> dict[str, str]:
    printed = stage.clusters[member].kubectl(
        "exec", worker, f"--namespace={NAMESPACE}", "--", "python", "-c", PROBE, json.dumps(targets)
    )
    answers: dict[str, str] = json.loads(printed.strip().splitlines()[-1])
    return answers


def test_a_worker_reaches_its_head(stage: Stage, running: Running) -> None:
    task = running.names[PLANNER.name]
    head = pod(stage, PLANNER.name, f"{task}-head")["status"]["podIP"]
    assert probe(stage, PLANNER.name, f"{task}-worker-0", {"gcs": ("tcp", head, 6379)}) == {"gcs": "open"}


def test_a_worker_reaches_nothing_but_its_head(stage: Stage, running: Running) -> None:
    task = running.names[PLANNER.name]
    operator = stage.planner.objects("pods", SYSTEM_NAMESPACE, "app.kubernetes.io/component=operator")[0]
    peers = asyncio.run(ledger.participants(stage.state, bytes.fromhex(running.task_id[2:])))
    own, other = (stage.clusters[member.name].site.address for member in (PLANNER, AUTOMATIC))
    shared = {each.name: each.address.rpartition(":") for each in stage.place.shared()}
    targets = {
        **{name: ("tcp", host, int(port)) for name, (host, _, port) in shared.items()},
        "DNS over TCP": ("tcp", "10.96.0.10", 53),
        "DNS over UDP": ("udp", "10.96.0.10", 53),
        "API server": ("tcp", "10.96.0.1", 443),
        "API server at its node": ("tcp", own, 6443),
        "kubelet": ("tcp", own, 10250),
        "API server of another": ("tcp", other, 6443),
        "operator": ("tcp", operator["status"]["podIP"], 8080),
    }
    for peer in peers:
        host, _, port = peer.endpoint.rpartition(":")
        if host != own:  # the own one is the head
            targets[f"exchange of {host}"] = ("tcp", host, int(port))
    answers = probe(stage, PLANNER.name, f"{task}-worker-0", targets)
    assert {name for name, answer in answers.items() if answer == "open"} == set()
    assert len(answers) == len(targets)


def test_a_worker_cannot_write_to_its_data(stage: Stage, running: Running) -> None:
    worker = f"{running.names[PLANNER.name]}-worker-0"
    tried = stage.planner.attempt("exec", worker, f"--namespace={NAMESPACE}", "--", "touch", "/data/mark")
    assert tried.returncode != 0
    assert "Read-only file system" in tried.stderr


def test_a_worker_has_no_credential_of_the_cluster(stage: Stage, running: Running) -> None:
    worker = f"{running.names[PLANNER.name]}-worker-0"
    tried = stage.planner.attempt(
        "exec", worker, f"--namespace={NAMESPACE}", "--", "ls", "/var/run/secrets/kubernetes.io"
    )
    assert tried.returncode != 0
    assert "No such file" in tried.stderr


def lives(cluster: Cluster, task: str) -> dict[str, tuple[str, list[int]]]:
    """Name of each pod of a task -> its uid, and how often its containers were started again."""
    return {
        found["metadata"]["name"]: (
            found["metadata"]["uid"],
            [state["restartCount"] for state in found["status"]["containerStatuses"]],
        )
        for found in cluster.objects("pods", selector=f"covey.dev/task={task}")
    }


def operator_pod(cluster: Cluster) -> tuple[str, str]:
    """Uid of the operator's only pod, and the chart that it is of."""
    (found,) = cluster.objects("pods", SYSTEM_NAMESPACE, "app.kubernetes.io/component=operator")
    return found["metadata"]["uid"], found["metadata"]["labels"]["helm.sh/chart"]


def test_an_upgrade_from_the_earlier_release_leaves_the_task_running(
    stage: Stage, running: Running, earlier_release: Cluster, helm: Callable[..., str]
) -> None:
    cluster, task = earlier_release, running.names[AUTOMATIC.name]
    operator, chart = operator_pod(cluster)
    assert chart == EARLIER.stem
    pods = lives(cluster, task)
    assert len(pods) == 3, "a head and two workers"

    helm(cluster, "upgrade", CHART, "--reset-then-reuse-values", "--wait", "--timeout=180s")
    new_operator, chart = operator_pod(cluster)
    assert new_operator != operator
    assert chart == f"covey-{yaml.safe_load((CHART / 'Chart.yaml').read_text())['version']}" != EARLIER.stem
    assert "is ready" in helm(cluster, "test", "--logs", "--timeout=120s")

    reached = int(progress.status(cluster.get("ft", task))["round"])
    story.await_task(stage, AUTOMATIC, running.task_id, lambda found: progress.status(found)["round"] > reached, 120)
    assert lives(cluster, task) == pods, "the pods that ran before, and none was started again"


def state_directory(stage: Stage, member: str, task: str) -> Path:
    cluster = stage.clusters[member]
    claim = cluster.get("pvc", f"{task}-state")
    assert claim is not None
    volume = cluster.get("pv", claim["spec"]["volumeName"])
    assert volume is not None
    return cluster.directory_of(volume)


def await_workers(cluster: Cluster, task: str, count: int) -> None:
    """Wait until so many pods of workers train, and there is no other."""

    def trains() -> bool:
        pods = cluster.objects("pods", selector=f"covey.dev/task={task},covey.dev/component=worker")
        ready = [c for p in pods for c in p["status"].get("conditions", []) if (c["type"], c["status"]) == READY]
        return len(pods) == len(ready) == count

    until(trains, f"{count} workers", 180, "", every_seconds=0.5)


def test_a_lost_head_and_one_with_fewer_workers_come_back_and_nothing_is_signed_twice(
    stage: Stage, running: Running
) -> None:
    """Two of three start anew at once: one alone would be suspended, and the others might end without it."""
    victim, changed = AUTOMATIC.name, PLANNER.name
    cluster, head = stage.clusters[victim], f"{running.names[victim]}-head"
    before = pod(stage, victim, head)["metadata"]["uid"]
    directories = {name: state_directory(stage, name, task) for name, task in running.names.items()}
    participants = asyncio.run(ledger.participants(stage.state, bytes.fromhex(running.task_id[2:])))
    with Witness(directories) as witness:
        # In the middle of a round: the victim has signed its update, and the round is not over.
        until(
            lambda: bool(list(directories[victim].glob("rounds/*/update.bin"))), "an update", 60, "", every_seconds=0.01
        )
        cluster.kubectl("delete", "pod", head, f"--namespace={NAMESPACE}", "--grace-period=1", "--wait=false")
        fewer = json.dumps({"spec": {"participation": {"workers": 1}}})
        patch = ("patch", "ft", running.names[changed], "--type=merge", f"--patch={fewer}")
        stage.clusters[changed].kubectl(*patch, f"--namespace={NAMESPACE}")
        until(
            lambda: (cluster.get("pod", head) or {"metadata": {"uid": before}})["metadata"]["uid"] != before,
            "a new head", 120, "", every_seconds=0.5,
        )  # fmt: skip
        await_workers(stage.clusters[changed], running.names[changed], 1)
        tasks = story.follow(stage, running.task_id, 900)
    assert progress.status(tasks[victim])["restarts"] >= 1

    domain = Domain(stage.state.chain_id, stage.state.settlement)
    signed = witness.bodies(domain, {p.session_key: p.address for p in participants})
    twice = {where: bodies for where, bodies in signed.items() if len(bodies) > 1}
    assert twice == {}
    for name in (victim, changed):
        owner = ledger.address_of(stage.state.keys[name])
        assert len({where[1] for site, where in signed if site == owner and where[0] == "update"}) >= 2

    books = asyncio.run(ledger.books(stage.state, bytes.fromhex(running.task_id[2:])))
    assert outcome.check(stage, tasks, books)


def test_a_deleted_task_leaves_nothing(stage: Stage, running: Running) -> None:
    for name, cluster in stage.clusters.items():
        selector = f"covey.dev/task={running.names[name]}"
        assert cluster.objects(CHILDREN, selector=selector) != []
        cluster.kubectl("delete", "ft", running.names[name], f"--namespace={NAMESPACE}", "--timeout=120s")
        until(lambda c=cluster, s=selector: c.objects(CHILDREN, selector=s) == [], f"{name}: no children", 60, "")
