"""Who owns which object and which field: people, others' controllers, and the operator."""

from __future__ import annotations

import json

import pytest
from covey_operator.kinds import (
    CLAIM,
    CONFIG_MAP,
    EVENT,
    NETWORK_POLICY,
    POD,
    SECRET,
    SERVICE,
    SUBNET,
    TASK,
    annotations_of,
    labels_of,
)
from operator_pods import HEAD_IP, exists, start_pods

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("operator")]

OPERATOR = "covey-operator"


def fields(obj, manager=OPERATOR, subresource=None):
    """Top-level fields that a manager owns."""
    return {
        field
        for entry in obj["metadata"]["managedFields"]
        if entry["manager"] == manager and entry.get("subresource") == subresource
        for field in entry["fieldsV1"]
    }


async def exists_with_status(cluster, kind, namespace, name):
    """The object once a pass is through: it makes what is missing first, and says so last."""

    async def check():
        obj = await cluster.get(kind, namespace, name)
        return obj if obj and "status" in obj else None

    return await cluster.until(f"status of {kind.kind} {name}", check)


async def test_the_operator_writes_status_and_finalizer_of_a_persons_objects_and_nothing_else(cluster, two_sites):
    planner, other = two_sites
    cluster.apply(planner.task("wdbc"))
    await exists(cluster, POD, planner.namespace, "wdbc-head")
    for kind, name in ((SUBNET, "eu"), (TASK, "wdbc")):
        obj = await exists_with_status(cluster, kind, planner.namespace, name)
        assert fields(obj, subresource="status") == {"f:status"}
        assert fields(obj) == {"f:metadata"}
    mirror = await cluster.get(TASK, other.namespace, "wdbc")
    assert fields(mirror) == {"f:metadata", "f:spec"}, "a mirror is the operator's, but for the answer"
    assert not {"f:participation", "f:suspend"} & {
        field
        for entry in mirror["metadata"]["managedFields"]
        if entry["manager"] == OPERATOR
        for field in entry["fieldsV1"].get("f:spec", {})
    }


async def test_every_child_has_its_controller_and_the_usual_labels(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await start_pods(cluster, planner.namespace, "wdbc", HEAD_IP)
    task = await cluster.get(TASK, planner.namespace, "wdbc")
    subnet = await cluster.get(SUBNET, planner.namespace, "eu")
    children = [
        child
        for kind in (POD, SERVICE, CONFIG_MAP, CLAIM, NETWORK_POLICY, SECRET)
        for child in await cluster.kube.list_all(kind, planner.namespace, f"app.kubernetes.io/managed-by={OPERATOR}")
    ]
    assert {child["kind"] for child in children} == {
        "Pod", "Service", "ConfigMap", "PersistentVolumeClaim", "NetworkPolicy", "Secret",
    }  # fmt: skip
    for child in children:
        (reference,) = child["metadata"]["ownerReferences"]
        assert (reference["controller"], reference["blockOwnerDeletion"]) == (True, True)
        assert reference["uid"] in (task["metadata"]["uid"], subnet["metadata"]["uid"])
        assert labels_of(child)["app.kubernetes.io/name"] == "covey"
        assert fields(child), "written under one name"


async def test_what_others_add_to_a_child_stays(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    service = await exists(cluster, SERVICE, planner.namespace, "wdbc-exchange")
    added = {"metadata": {"annotations": {"mesh.example/inject": "no"}, "labels": {"team": "research"}}}
    cluster.patch(SERVICE, planner.namespace, "wdbc-exchange", added)
    cluster.patch(SUBNET, planner.namespace, "eu", {"spec": {"exchange": {"service": {"type": "ClusterIP"}}}})

    async def changed():
        found = await cluster.get(SERVICE, planner.namespace, "wdbc-exchange")
        return found["spec"]["type"] == "ClusterIP" and found

    found = await cluster.until("the operator has written the Service again", changed)
    assert annotations_of(found)["mesh.example/inject"] == "no"
    assert labels_of(found)["team"] == "research"
    assert found["metadata"]["uid"] == service["metadata"]["uid"]


async def test_pods_that_run_are_left_as_they_are_when_the_subnet_changes(cluster, two_sites, operator):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await start_pods(cluster, planner.namespace, "wdbc", HEAD_IP)
    names = ("wdbc-head", "wdbc-worker-0", "wdbc-worker-1")
    before = [await cluster.get(POD, planner.namespace, name) for name in names]
    window = {"from": "08:00", "to": "18:00", "maxEgressMbps": 5}
    change = {"compute": {"nodeSelector": {"zone": "a"}}, "exchange": {"windows": [window]}}
    cluster.patch(SUBNET, planner.namespace, "eu", {"spec": change})

    async def told():
        config = await cluster.get(CONFIG_MAP, planner.namespace, "wdbc-config")
        return json.loads(config["data"]["validator.json"])["exchange"].get("windows")

    await cluster.until("the change has reached the settings of the next start", told)
    after = [await cluster.get(POD, planner.namespace, name) for name in names]
    assert [pod["metadata"]["uid"] for pod in after] == [pod["metadata"]["uid"] for pod in before]
    assert all("nodeSelector" not in pod["spec"] for pod in after)
    cluster.delete(POD, planner.namespace, "wdbc-head")

    async def another():
        head = await cluster.get(POD, planner.namespace, "wdbc-head")
        return head is not None and head["metadata"]["uid"] != before[0]["metadata"]["uid"] and head

    head = await cluster.until("a new head", another)
    assert head["spec"]["nodeSelector"] == {"zone": "a"}, "a new pod is as the Subnet says now"


async def test_a_strangers_secret_is_left_alone(cluster, member):
    site = await member()
    stranger = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "eu-exchange", "namespace": site.namespace},
        "stringData": {"mine": "yes"},
    }
    cluster.apply(stranger, site.subnet())
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "NameConflict", "False")
    assert "eu-exchange" in told.message
    assert set((await cluster.get(SECRET, site.namespace, "eu-exchange"))["data"]) == {"mine"}
    events = await cluster.kube.list_all(EVENT, site.namespace)
    assert [event["type"] for event in events if event["reason"] == "NameConflict"] == ["Warning"]
    cluster.delete(SECRET, site.namespace, "eu-exchange")
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
