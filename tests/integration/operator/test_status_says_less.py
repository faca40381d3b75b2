"""A status that says less than before is taken by the API server, whatever it said before."""

from __future__ import annotations

import pytest
from covey_api.subnet import SubnetMember, SubnetStatus
from covey_api.task import ModelStatus, TaskStatus, TransactionStatus
from covey_operator.kinds import SUBNET, TASK

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("alone")]

HASH, ADDRESS = "0x" + "ab" * 32, "0x" + "11" * 20
TOLD = TaskStatus(
    round=4,
    rounds="4/150",
    metrics={"accuracy": "0.9", "auc": "1"},
    model=ModelStatus(digest=HASH, location="models/away"),
    transactions=[TransactionStatus(purpose="accept", hash=HASH)],
)
MEMBERSHIP = SubnetStatus(
    stake="1000", members=[SubnetMember.model_validate({"address": ADDRESS, "stake": "5", "roles": ["Trainer"]})]
)


@pytest.mark.parametrize("less", [TaskStatus(round=4), TaskStatus(round=4, metrics={"auc": "1"})], ids=["none", "one"])
async def test_a_head_that_starts_anew_has_no_metrics_yet(cluster, member, less):
    site = await member(funded=False)
    cluster.apply(site.task("away"))
    for status in (TOLD, less, TOLD):
        told = status.wire()
        await cluster.kube.apply_status(await cluster.get(TASK, site.namespace, "away"), told)
        assert (await cluster.get(TASK, site.namespace, "away")).get("status", {}) == told


async def test_a_subnet_that_lost_sight_of_its_members(cluster, member):
    site = await member(funded=False)
    cluster.apply(site.subnet())
    for status in (MEMBERSHIP, SubnetStatus(stake="1000"), MEMBERSHIP):
        told = status.wire()
        await cluster.kube.apply_status(await cluster.get(SUBNET, site.namespace, "eu"), told)
        assert (await cluster.get(SUBNET, site.namespace, "eu")).get("status", {}) == told
