"""Tasks against a real API server and a real chain: published, mirrored, answered and started."""

from __future__ import annotations

import json

import pytest
from covey_api.task import Decision
from covey_cli.answer import answer
from covey_cli.cluster import Place
from covey_operator.kinds import (
    CLAIM,
    CONFIG_MAP,
    EVENT,
    NETWORK_POLICY,
    POD,
    SERVICE,
    SUBNET,
    TASK,
    annotations_of,
    name_of,
)
from minors import BOTH_ENDS
from operator_pods import HEAD_IP, exists, gone, joined, running

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("operator")]


@BOTH_ENDS
async def test_a_task_is_published_mirrored_joined_and_started(cluster, two_sites):
    planner, other = two_sites
    cluster.apply(planner.task("wdbc"))
    mirror = await exists(cluster, TASK, other.namespace, "wdbc")
    for site in two_sites:
        await cluster.condition(TASK, site.namespace, "wdbc", "Accepted", "AcceptedByPolicy", "True")
        await exists(cluster, POD, site.namespace, "wdbc-head")
    own = await cluster.get(TASK, planner.namespace, "wdbc")
    assert annotations_of(mirror)["covey.dev/task-id"] == own["status"]["taskId"]
    assert mirror["metadata"]["labels"]["covey.dev/mirror"] == "true"
    assert mirror["spec"]["bounty"]["amount"] == "200"
    assert mirror["metadata"]["ownerReferences"][0]["name"] == "eu"

    async def paid():
        return (await cluster.get(SUBNET, planner.namespace, "eu"))["status"]["balance"] == "8800"

    await cluster.until("the bounty has left the balance", paid)

    async def warned():
        said = [await cluster.kube.list_all(EVENT, site.namespace) for site in two_sites]
        return all(
            [event["type"] for event in events if event["reason"] == "ShortTask"] == ["Warning"] for events in said
        )

    await cluster.until("Planner and member are warned, once, of a task of four rounds", warned)


async def test_children_have_the_promised_shapes(cluster, two_sites):
    planner, other = two_sites
    namespace = other.namespace
    cluster.apply(planner.task("wdbc"))
    head = await exists(cluster, POD, namespace, "wdbc-head")
    assert await cluster.get(POD, namespace, "wdbc-worker-0") is None, "workers wait for the head's address"
    cluster.set_pod_status(namespace, "wdbc-head", running(HEAD_IP, ["ray-head", "validator"]))
    worker = await exists(cluster, POD, namespace, "wdbc-worker-1")
    assert annotations_of(worker)["covey.dev/head-uid"] == head["metadata"]["uid"]
    container = worker["spec"]["containers"][0]
    assert {"name": "RAY_HEAD_IP", "value": HEAD_IP} in container["env"]
    data = next(mount for mount in container["volumeMounts"] if mount["name"] == "data")
    assert (data["mountPath"], data["readOnly"], data["subPath"]) == ("/data", True, "part")
    assert not any("session" in volume["name"] for volume in worker["spec"]["volumes"])
    for pod in (head, worker):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["metadata"]["ownerReferences"][0]["controller"] is True
    settings = json.loads((await cluster.get(CONFIG_MAP, namespace, "wdbc-config"))["data"]["validator.json"])
    assert settings["site"] == other.address
    assert settings["chain"]["contract"] == other.contracts.settlement
    service = await cluster.get(SERVICE, namespace, "wdbc-exchange")
    assert service["spec"]["type"] == "NodePort"
    assert await cluster.get(CLAIM, namespace, "wdbc-state") is not None
    policies = await cluster.kube.list_all(NETWORK_POLICY, namespace, "covey.dev/task=wdbc")
    assert {name_of(policy) for policy in policies} == {"wdbc-deny", "wdbc-worker", "wdbc-head"}


async def test_a_person_decides_where_the_policy_is_manual(cluster, member):
    planner = await joined(cluster, member)
    other = await joined(cluster, member, policy={"approval": "Manual"})
    cluster.apply(planner.task("wdbc"))
    told = await cluster.condition(TASK, other.namespace, "wdbc", "Accepted", "AwaitingApproval", "Unknown")
    assert "Join or Decline" in told.message
    await cluster.condition(TASK, planner.namespace, "wdbc", "Training", "AwaitingMembers", "False")
    place = Place(str(cluster.server.kubeconfig), namespace=other.namespace)
    done = answer(place, "wdbc", Decision.JOIN)
    assert "Next: the operator sends the acceptance to the chain" in done
    await cluster.condition(TASK, other.namespace, "wdbc", "Accepted", "AcceptedByPerson", "True")
    await exists(cluster, POD, other.namespace, "wdbc-head")
    await cluster.condition(TASK, other.namespace, "wdbc", "ClusterReady", "PodsStarting", "False")
    assert "leaves the running task" in answer(place, "wdbc", Decision.DECLINE)
    await gone(cluster, POD, other.namespace, "wdbc-head")
    await cluster.condition(TASK, other.namespace, "wdbc", "Training", "DeclinedByPerson", "False")
    assert "the pods start again" in answer(place, "wdbc", Decision.JOIN)
    await exists(cluster, POD, other.namespace, "wdbc-head")


async def test_a_bounty_above_the_balance_is_told(cluster, member):
    planner = await joined(cluster, member)
    cluster.apply(planner.task("wdbc", bounty={"amount": "99999"}))
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "Published", "InsufficientFunds", "False")
    assert "99999" in told.message


async def test_an_unknown_schema_is_told(cluster, member):
    planner = await joined(cluster, member)
    cluster.apply(planner.task("wdbc", data={"schema": "nobody-has-it"}))
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "Accepted", "UnknownDataSchema", "False")
    assert "wdbc-v1" in told.message


async def test_a_task_without_subnet_is_told(cluster, member):
    planner = await member(funded=False)
    cluster.apply(planner.task("wdbc"))
    await cluster.condition(TASK, planner.namespace, "wdbc", "Published", "SubnetNotFound")
