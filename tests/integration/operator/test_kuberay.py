"""RayClusters of tasks against a real API server with KubeRay's own definition; the test plays KubeRay."""

from __future__ import annotations

import json

import pytest
from backends import BACKENDS, NEEDS_KUBERAY, install_kuberay, remove_kuberay, set_status
from covey_operator.kinds import CLAIM, POD, RAY_CLUSTER, SERVICE, SUBNET, TASK, name_of
from operator_pods import HEAD_IP, ended, exists, gone, joined, running

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, NEEDS_KUBERAY, pytest.mark.usefixtures("operator")]

ALONE = {"members": {"min": 1, "max": 1}, "rounds": {"count": 1, "minUpdates": 1}}
PLAYER = BACKENDS["KubeRay"]


@pytest.fixture
async def site(cluster, member, api_server):
    """A member whose tasks run in RayClusters, alone."""
    install_kuberay(api_server)
    return await joined(cluster, member, compute={"backend": "KubeRay"})


async def test_a_cluster_without_kuberay_is_told_and_mended_by_its_installation(cluster, member, api_server):
    remove_kuberay(api_server)
    try:
        one = await joined(cluster, member, compute={"backend": "KubeRay"})
        cluster.apply(one.task("wdbc", **ALONE))
        told = await cluster.condition(TASK, one.namespace, "wdbc", "ClusterReady", "KubeRayMissing", "False")
        assert "install KubeRay" in told.message
    finally:
        install_kuberay(api_server)
    await exists(cluster, RAY_CLUSTER, one.namespace, "wdbc")


async def test_a_ray_cluster_is_what_bare_pods_would_be(cluster, site):
    cluster.apply(site.task("wdbc", **ALONE, workers={"replicas": 2, "gpus": 1}))
    made = await exists(cluster, RAY_CLUSTER, site.namespace, "wdbc")
    task = await cluster.get(TASK, site.namespace, "wdbc")
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (task["metadata"]["uid"], True, True)
    (group,) = made["spec"]["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"], group["numOfHosts"]) == (2, 2, 2, 1)
    head = made["spec"]["headGroupSpec"]["template"]
    assert [one["name"] for one in head["spec"]["containers"]] == ["ray-head", "validator"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    service = await cluster.get(SERVICE, site.namespace, "wdbc-gcs")
    environment = {one["name"]: one.get("value") for one in group["template"]["spec"]["containers"][0]["env"]}
    assert environment["RAY_HEAD_IP"] == service["spec"]["clusterIP"]
    # Created in a namespace that enforces the level `restricted`:
    pods = [await PLAYER.head(cluster, site.namespace, "wdbc"), *await PLAYER.workers(cluster, site.namespace, "wdbc")]
    assert all(pod["spec"]["automountServiceAccountToken"] is False for pod in pods)
    assert {pod["metadata"]["labels"]["covey.dev/component"] for pod in pods} == {"head", "worker"}


async def test_a_strangers_ray_cluster_is_left_alone(cluster, site):
    pod = {"spec": {"containers": [{"name": "ray", "image": "i"}]}}
    stranger = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "wdbc", "namespace": site.namespace, "labels": {"covey.dev/task": "wdbc"}},
        "spec": {"headGroupSpec": {"template": pod}},
    }
    cluster.apply(stranger)
    cluster.apply(site.task("wdbc", **ALONE))
    told = await cluster.condition(TASK, site.namespace, "wdbc", "ClusterReady", "NameConflict", "False")
    assert "RayCluster wdbc" in told.message
    found = await cluster.get(RAY_CLUSTER, site.namespace, "wdbc")
    assert found["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["name"] == "ray"
    cluster.delete(RAY_CLUSTER, site.namespace, "wdbc")
    await PLAYER.head(cluster, site.namespace, "wdbc")


async def test_what_kuberay_cannot_make_is_told(cluster, site):
    cluster.apply(site.task("wdbc", **ALONE))
    await exists(cluster, RAY_CLUSTER, site.namespace, "wdbc")
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreateHeadPod",
        "message": "pods is forbidden: exceeded quota: none.",
        "lastTransitionTime": "2026-11-27T12:00:00Z",
    }
    set_status(cluster, site.namespace, "wdbc", {"conditions": [failure]})
    wake(cluster, site)
    told = await cluster.condition(TASK, site.namespace, "wdbc", "ClusterReady", "PodsUnschedulable", "False")
    assert "exceeded quota" in told.message
    set_status(cluster, site.namespace, "wdbc", {"conditions": []})
    await PLAYER.head(cluster, site.namespace, "wdbc")
    await cluster.condition(TASK, site.namespace, "wdbc", "ClusterReady", "PodsStarting", "False")


async def test_a_head_that_kuberay_deletes_is_kept_until_its_report_is_read(cluster, site, alone, another_operator):
    with another_operator():
        cluster.apply(site.task("wdbc", **ALONE, workers={"replicas": 2}))
        head = await PLAYER.start(cluster, site.namespace, "wdbc", HEAD_IP)
        await cluster.condition(TASK, site.namespace, "wdbc", "ClusterReady", "AsExpected", "True")
    report = {"outcome": "Succeeded", "modelDigest": "0x" + "11" * 32, "modelLocation": "/output/m", "reward": "0"}
    status = ended({"ray-head": {"outcome": "Succeeded"}, "validator": {**report, "rewardProof": [], "round": 1}}, 0)
    cluster.set_pod_status(site.namespace, name_of(head), status)
    for _ in range(3):  # while no operator looks
        await PLAYER.reconcile(cluster, site.namespace, "wdbc")
    kept = await cluster.get(POD, site.namespace, name_of(head))
    assert kept["metadata"]["deletionTimestamp"]
    with another_operator():
        await cluster.condition(TASK, site.namespace, "wdbc", "Settled", "Settling", "Unknown")
        await gone(cluster, RAY_CLUSTER, site.namespace, "wdbc")
        await PLAYER.no_pods(cluster, site.namespace, "wdbc")
        assert await cluster.get(CLAIM, site.namespace, "wdbc-state") is not None


async def test_changed_replicas_are_set_right(cluster, site):
    cluster.apply(site.task("wdbc", **ALONE, workers={"replicas": 2}))
    await PLAYER.start(cluster, site.namespace, "wdbc", HEAD_IP)
    made = await cluster.get(RAY_CLUSTER, site.namespace, "wdbc")
    (group,) = made["spec"]["workerGroupSpecs"]
    changed = {**group, "replicas": 3, "maxReplicas": 3}
    cluster.patch(RAY_CLUSTER, site.namespace, "wdbc", {"spec": {"workerGroupSpecs": [changed]}})
    wake(cluster, site)

    async def right():
        found = await cluster.get(RAY_CLUSTER, site.namespace, "wdbc")
        return found["spec"]["workerGroupSpecs"][0]["replicas"] == 2

    await cluster.until("two replicas again", right)


async def test_a_queue_of_kueue_admits_the_ray_cluster_as_a_whole(cluster, member, api_server):
    install_kuberay(api_server)
    compute = {"backend": "KubeRay", "queue": "research", "tolerations": [{"key": "gpu", "operator": "Exists"}]}
    one = await joined(cluster, member, compute=compute)
    cluster.apply(one.task("wdbc", **ALONE, workers={"replicas": 2}))
    made = await exists(cluster, RAY_CLUSTER, one.namespace, "wdbc")
    assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert "suspend" not in made["spec"], "Kueue's to set"
    cluster.patch(RAY_CLUSTER, one.namespace, "wdbc", {"spec": {"suspend": True}})
    wake(cluster, one)

    async def waits():
        task = await cluster.get(TASK, one.namespace, "wdbc")
        return 'queue "research"' in task["status"]["message"]

    await cluster.until("the queue is named", waits)
    head = made["spec"]["headGroupSpec"]
    admitted = [*head["template"]["spec"]["tolerations"], {"key": "flavour", "operator": "Exists"}]
    head["template"]["spec"]["tolerations"] = admitted
    cluster.patch(RAY_CLUSTER, one.namespace, "wdbc", {"spec": {"suspend": False, "headGroupSpec": head}})
    await PLAYER.start(cluster, one.namespace, "wdbc", HEAD_IP)
    await cluster.condition(TASK, one.namespace, "wdbc", "ClusterReady", "AsExpected", "True")
    found = await cluster.get(RAY_CLUSTER, one.namespace, "wdbc")
    assert found["spec"]["headGroupSpec"]["template"]["spec"]["tolerations"] == admitted, "what Kueue added stays"
    assert found["spec"]["suspend"] is False


async def test_a_task_keeps_the_back_end_with_which_it_began(cluster, site):
    cluster.apply(site.task("wdbc", **ALONE, workers={"replicas": 2}))
    head = await PLAYER.start(cluster, site.namespace, "wdbc", HEAD_IP)
    cluster.patch(SUBNET, site.namespace, "eu", {"spec": {"compute": {"backend": "Pods"}}})
    wake(cluster, site)
    await cluster.condition(TASK, site.namespace, "wdbc", "ClusterReady", "AsExpected", "True")
    cluster.set_pod_status(site.namespace, name_of(head), {"phase": "Failed", "reason": "Evicted"})
    again = await PLAYER.head(cluster, site.namespace, "wdbc", other_than=head["metadata"]["uid"])
    assert again["metadata"]["ownerReferences"][0]["kind"] == "RayCluster"
    cluster.set_pod_status(site.namespace, name_of(again), running("127.77.3.2", ["ray-head", "validator"]))


def wake(cluster, site):
    """RayCluster.status wakes nobody by itself; the operator would look in a quarter of a minute."""
    cluster.patch(TASK, site.namespace, "wdbc", {"metadata": {"annotations": {"test/wake": json.dumps(id(site))}}})
    annotations = {"metadata": {"annotations": {"test/wake": None}}}
    cluster.patch(TASK, site.namespace, "wdbc", annotations)
