"""A deleted task leaves nothing, its bounty comes back, and the others hear of it."""

from __future__ import annotations

import pytest
from covey_api.task import Decision
from covey_chain.client import Chain
from covey_chain.types import TaskStatus
from covey_cli.answer import answer
from covey_cli.cluster import Place
from covey_cli.errors import CommandError
from covey_operator.kinds import (
    CLAIM,
    CONFIG_MAP,
    NETWORK_POLICY,
    POD,
    SECRET,
    SERVICE,
    SUBNET,
    TASK,
)
from operator_pods import exists, gone, joined

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("operator")]


async def test_deletion_leaves_nothing_and_returns_the_bounty(cluster, member):
    planner = await joined(cluster, member)
    cluster.apply(planner.task("wdbc", members={"min": 2, "max": 3}))
    await cluster.condition(TASK, planner.namespace, "wdbc", "Accepted", "AcceptedByPolicy", "True")
    cluster.delete(TASK, planner.namespace, "wdbc")
    await gone(cluster, TASK, planner.namespace, "wdbc")
    for kind in (POD, SERVICE, CONFIG_MAP, CLAIM, NETWORK_POLICY):
        assert await cluster.kube.list_all(kind, planner.namespace, "covey.dev/task=wdbc") == []
    for name in ("wdbc-session", "wdbc-ray"):
        assert await cluster.get(SECRET, planner.namespace, name) is None

    async def refunded():
        return (await cluster.get(SUBNET, planner.namespace, "eu"))["status"].get("balance") == "9000"

    await cluster.until("the bounty is back", refunded)


async def test_a_task_deleted_with_its_subnet_returns_the_bounty_too(cluster, member, node, contracts):
    planner = await joined(cluster, member)
    cluster.apply(planner.task("wdbc"))
    await cluster.condition(TASK, planner.namespace, "wdbc", "Published", "ShortTask", "True")
    task_id = (await cluster.get(TASK, planner.namespace, "wdbc"))["status"]["taskId"]
    cluster.server.kubectl("delete", "ft,sn", "--all", "-n", planner.namespace, "--timeout=60s")
    chain = await Chain.connect(node.url, node.chain_id, contracts.settlement)
    try:
        assert (await chain.task(bytes.fromhex(task_id[2:]))).status is TaskStatus.CANCELLED
    finally:
        await chain.close()


async def test_a_cancelled_task_fails_at_the_others(cluster, member):
    planner = await joined(cluster, member)
    other = await joined(cluster, member, policy={"approval": "Manual"})
    cluster.apply(planner.task("wdbc"))
    await cluster.condition(TASK, other.namespace, "wdbc", "Accepted", "AwaitingApproval", "Unknown")
    cluster.delete(TASK, planner.namespace, "wdbc")
    await cluster.condition(TASK, other.namespace, "wdbc", "Failed", "CancelledByPlanner", "True")
    with pytest.raises(CommandError, match=r"no longer open: it has failed \(CancelledByPlanner\)"):
        answer(Place(str(cluster.server.kubeconfig), namespace=other.namespace), "wdbc", Decision.JOIN)


async def test_a_dead_chain_does_not_block_deletion_for_ever(cluster, member):
    site = await member(funded=False)
    subnet = site.subnet()
    subnet["spec"]["chain"]["rpcUrl"] = "http://127.0.0.1:9"
    cluster.apply(subnet, site.task("wdbc"))
    await cluster.condition(TASK, site.namespace, "wdbc", "Published", "RpcUnavailable")
    cluster.delete(TASK, site.namespace, "wdbc")
    await gone(cluster, TASK, site.namespace, "wdbc")


async def test_deletion_works_when_the_subnet_cannot_be_read(cluster, member):
    site = await member(funded=False)
    hours = {"from": "08:00", "to": "18:00", "timeZone": "Mars/Phobos", "maxEgressMbps": 20}
    cluster.apply(site.subnet(exchange={"advertise": "a.example", "windows": [hours]}), site.task("wdbc"))
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "InvalidSpec", "False")
    await cluster.condition(TASK, site.namespace, "wdbc", "Published", "SubnetNotReady")
    for kind, name in ((TASK, "wdbc"), (SUBNET, "eu")):
        cluster.delete(kind, site.namespace, name)
        await gone(cluster, kind, site.namespace, name)


async def test_a_namespace_that_is_deleted_goes(cluster, member):
    """Wallet, claims and settings vanish in any order; nothing may wait for them."""
    site = await joined(cluster, member)
    one = {"members": {"min": 1, "max": 1}, "rounds": {"count": 1, "minUpdates": 1}}
    cluster.apply(site.task("wdbc", **one))
    await exists(cluster, POD, site.namespace, "wdbc-head")
    cluster.server.kubectl("delete", "namespace", site.namespace, "--wait=true", "--timeout=60s")
