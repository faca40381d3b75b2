"""Workers that ask for GPUs, on nodes that have some: an extended resource that a person advertises on the node.

No GPU is behind it, so no round is played: what is tested is where workers run, and what is told of those
that wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from covey_demo import progress, story
from covey_demo.cluster import Cluster
from covey_demo.members import AUTOMATIC, NAMESPACE, PLANNER
from covey_demo.story import Stage
from covey_dev.process import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

GPU = "nvidia.com/gpu"


def advertise(cluster: Cluster, gpus: int) -> None:
    """As the documentation of Kubernetes has it: a patch of the node's status; the kubelet makes it allocatable."""
    patch = [{"op": "add", "path": f"/status/capacity/{GPU.replace('/', '~1')}", "value": str(gpus)}]
    cluster.kubectl(
        "patch", "node", cluster.site.node, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}"
    )


def withdraw(cluster: Cluster) -> None:
    for kind in ("capacity", "allocatable"):
        patch = [{"op": "remove", "path": f"/status/{kind}/{GPU.replace('/', '~1')}"}]
        cluster.attempt(
            "patch", "node", cluster.site.node, "--subresource=status", "--type=json", f"--patch={json.dumps(patch)}"
        )


@pytest.fixture
def with_a_gpu_each(stage: Stage, make_task: Callable[..., dict[str, Any]]) -> Iterator[dict[str, str]]:
    """A task of two members with one worker each, that needs one GPU; name of the member -> name of its object."""
    advertise(stage.planner, 1)
    task = make_task("with-gpus", members={"min": 2, "max": 2})
    task["spec"]["workers"] |= {"replicas": 1, "gpus": 1}
    task_id = story.publish(stage, task)
    members = (PLANNER, AUTOMATIC)
    names = {m.name: story.await_task(stage, m, task_id, lambda _: True)["metadata"]["name"] for m in members}
    yield names
    for name, found in names.items():
        stage.clusters[name].kubectl("delete", "ft", found, f"--namespace={NAMESPACE}", "--timeout=180s")
        withdraw(stage.clusters[name])


def node_of_worker(cluster: Cluster, task: str) -> str | None:
    """Where the worker was scheduled to, or None."""
    found = cluster.get("pod", f"{task}-worker-0")
    return (found or {}).get("spec", {}).get("nodeName")


def waits_for_a_gpu(cluster: Cluster, task: str) -> bool:
    found = progress.condition(cluster.get("ft", task), "ClusterReady")
    return found.get("reason") == "PodsUnschedulable" and GPU in found["message"]


def test_a_worker_runs_where_a_gpu_is_and_waits_where_none_is(stage: Stage, with_a_gpu_each: dict[str, str]) -> None:
    equipped, bare = stage.planner, stage.clusters[AUTOMATIC.name]
    task, other = with_a_gpu_each[equipped.name], with_a_gpu_each[bare.name]
    until(lambda: node_of_worker(equipped, task) == equipped.site.node, "the worker has its node", 300, "")
    (container,) = (equipped.get("pod", f"{task}-worker-0") or {})["spec"]["containers"]
    assert container["resources"]["limits"][GPU] == container["resources"]["requests"][GPU] == "1"

    until(lambda: waits_for_a_gpu(bare, other), "the condition tells what is missing", 300, "")
    assert progress.condition(bare.get("ft", other), "ClusterReady")["status"] == "False"
    assert node_of_worker(bare, other) is None

    advertise(bare, 1)
    until(lambda: node_of_worker(bare, other) == bare.site.node, "the worker got the new GPU", 120, "")
