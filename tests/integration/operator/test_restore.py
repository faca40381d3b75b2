"""A cluster that is lost for good, and its member in another one: what is on chain comes back, and is paid once."""

from __future__ import annotations

import pytest
from covey_operator.kinds import CONFIG_MAP, SECRET, SUBNET, TASK
from minors import BOTH_ENDS
from operator_pods import gone

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("alone"), BOTH_ENDS]

COLLECTOR_SECONDS = 120.0  # the garbage collector looks for kinds that are new to it every half minute


def lose(cluster, namespace):
    """As if the API server's store were lost: nobody is there to finish anything."""
    for name in ("ft/wdbc", "subnet/eu"):
        cluster.server.kubectl(
            "patch", name, "-n", namespace, "--type=merge", "--patch", '{"metadata": {"finalizers": []}}'
        )
        cluster.server.kubectl("delete", name, "-n", namespace, "--ignore-not-found", "--timeout=30s")
    cluster.server.kubectl("delete", "secret", "wallet", "-n", namespace)


def known(task, task_id):
    """The manifest of a task that is on chain already, marked as the page on restoring says."""
    marks = {"labels": {"covey.dev/mirror": "true"}, "annotations": {"covey.dev/task-id": task_id}}
    return {**task, "metadata": {**task["metadata"], **marks}}


async def test_a_member_comes_back_from_its_key_and_its_manifests(cluster, member, another_operator):
    site = await member()
    namespace, subnet, task = site.namespace, site.subnet(), site.task("wdbc")

    async def seat():
        await cluster.condition(SUBNET, namespace, "eu", "Ready", "AsExpected", "True")
        status = (await cluster.get(SUBNET, namespace, "eu"))["status"]
        return {key: status[key] for key in ("address", "stake", "balance")}

    async def published():
        await cluster.condition(TASK, namespace, "wdbc", "Published", "ShortTask", "True")
        return (await cluster.get(TASK, namespace, "wdbc"))["status"]["taskId"]

    async def paid():
        now = await seat()
        return (now["stake"], now["balance"]) == ("1000", "8800")

    with another_operator():
        cluster.apply(subnet, task)
        task_id = await published()
        await cluster.until("stake and bounty are paid", paid)
    lose(cluster, namespace)
    for kind, name in ((SECRET, "wdbc-session"), (CONFIG_MAP, "wdbc-config")):
        await gone(cluster, kind, namespace, name, COLLECTOR_SECONDS)

    site.prepare()
    cluster.apply(subnet, known(task, task_id))
    with another_operator():
        assert await published() == task_id
        await cluster.until("neither stake nor bounty is paid again", paid)
        # Nobody else has joined: it can still be taken back, and with it the bounty.
        cluster.delete(TASK, namespace, "wdbc")
        await gone(cluster, TASK, namespace, "wdbc")

        async def returned():
            return (await seat())["balance"] == "9000"

        await cluster.until("the bounty is back", returned)
        cluster.delete(SUBNET, namespace, "eu")
        await gone(cluster, SUBNET, namespace, "eu")
