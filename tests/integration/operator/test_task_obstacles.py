"""What keeps a task's pods from running is told, and mended without a person at the operator."""

from __future__ import annotations

import json

import pytest
from covey_operator.kinds import (
    CONFIG_MAP,
    POD,
    SERVICE,
    SUBNET,
    TASK,
)
from operator_pods import HEAD_IP, exists, joined, start_pods

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("operator")]


async def test_an_image_that_cannot_be_pulled_is_told(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await start_pods(cluster, planner.namespace, "wdbc", HEAD_IP)
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such host"}}}
    container = {"name": "ray-worker", "image": "i", "imageID": "", "ready": False, "restartCount": 0, **waiting}
    status = {"phase": "Pending", "containerStatuses": [container]}
    cluster.set_pod_status(planner.namespace, "wdbc-worker-1", status)
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "ClusterReady", "ImagePullFailed", "False")
    assert "registry.example/wdbc@sha256" in told.message


async def test_a_strangers_object_is_left_alone(cluster, two_sites):
    planner, _ = two_sites
    stranger = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "wdbc-config", "namespace": planner.namespace},
        "data": {"mine": "yes"},
    }
    cluster.apply(stranger)
    cluster.apply(planner.task("wdbc"))
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "ClusterReady", "NameConflict", "False")
    assert "wdbc-config" in told.message
    assert (await cluster.get(CONFIG_MAP, planner.namespace, "wdbc-config"))["data"] == {"mine": "yes"}
    cluster.delete(CONFIG_MAP, planner.namespace, "wdbc-config")
    await exists(cluster, POD, planner.namespace, "wdbc-head")


async def test_a_missing_claim_is_told_and_mended(cluster, member):
    planner = await member(claims=("models",))
    cluster.apply(planner.subnet())
    await cluster.condition(SUBNET, planner.namespace, "eu", "Ready", "AsExpected", "True")
    cluster.apply(planner.task("wdbc", members={"min": 1, "max": 1}, rounds={"count": 1, "minUpdates": 1}))
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "ClusterReady", "ClaimNotFound", "False")
    assert "data" in told.message
    planner.prepare()
    await exists(cluster, POD, planner.namespace, "wdbc-head")


async def allow_only(cluster, namespace, **hard):
    """A quota named `only`, in force when this returns."""
    metadata = {"name": "only", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})

    async def counted():
        listed = cluster.server.kubectl("get", "resourcequota", "only", "-n", namespace, "-o", "json")
        return "hard" in json.loads(listed).get("status", {})

    await cluster.until("the quota is counted", counted)


async def test_what_the_api_server_refuses_is_told_and_mended(cluster, member):
    planner = await joined(cluster, member)
    await allow_only(cluster, planner.namespace, pods="0")
    cluster.apply(planner.task("wdbc", members={"min": 1, "max": 1}, rounds={"count": 1, "minUpdates": 1}))
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "ClusterReady", "PodsUnschedulable", "False")
    assert "exceeded quota" in told.message
    cluster.server.kubectl("delete", "resourcequota", "only", "-n", planner.namespace)
    await exists(cluster, POD, planner.namespace, "wdbc-head")


async def test_a_secret_that_the_api_server_refuses_is_told_and_mended(cluster, member):
    site = await member()
    secrets = {"count/secrets": "1"}  # that of the wallet
    await allow_only(cluster, site.namespace, **secrets)
    cluster.apply(site.subnet())
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "ChildRefused", "False")
    assert "exceeded quota" in told.message
    secrets["count/secrets"] = "2"  # and that of the exchange
    await allow_only(cluster, site.namespace, **secrets)
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    cluster.apply(site.task("wdbc", members={"min": 1, "max": 1}, rounds={"count": 1, "minUpdates": 1}))
    told = await cluster.condition(TASK, site.namespace, "wdbc", "Accepted", "ChildRefused")
    assert "wdbc-session" in told.message
    cluster.server.kubectl("delete", "resourcequota", "only", "-n", site.namespace)
    await exists(cluster, POD, site.namespace, "wdbc-head")


async def test_a_taken_node_port_is_told(cluster, member):
    exchange = {"advertise": "a.example", "service": {"type": "NodePort", "nodePort": 30707}}
    first = await joined(cluster, member, exchange=exchange)
    second = await joined(cluster, member, exchange=exchange, policy={"approval": "Manual"})
    one = {"members": {"min": 1, "max": 2}, "rounds": {"count": 1, "minUpdates": 1}}
    cluster.apply(first.task("wdbc", **one))
    await exists(cluster, SERVICE, first.namespace, "wdbc-exchange")
    await exists(cluster, TASK, second.namespace, "wdbc")
    cluster.patch(TASK, second.namespace, "wdbc", {"spec": {"participation": {"decision": "Join"}}})
    told = await cluster.condition(TASK, second.namespace, "wdbc", "ClusterReady", "EndpointPending", "False")
    assert "30707" in told.message
