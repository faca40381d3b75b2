"""A task that runs, against a real API server and a real chain: quiet passes, progress, settlement, lost pods."""

from __future__ import annotations

import asyncio

import pytest
from audited import at_rest, writes_of_the_operator
from backends import BOTH
from covey_chain.client import Chain
from covey_chain.merkle import RewardTree
from covey_chain.signing import sign
from covey_chain.types import RoundResult
from covey_chain.wallet import Wallet
from covey_operator.keys import read_entry
from covey_operator.kinds import (
    CLAIM,
    POD,
    SECRET,
    SUBNET,
    TASK,
    name_of,
    uid_of,
)
from operator_pods import HEAD_IP, ended, exists, gone, running, start_pods, validator_at

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("operator")]

RESULT_HASH = "0x" + "ab" * 32


@BOTH
async def test_a_pass_without_change_writes_nothing(cluster, two_sites, operator, api_server, backend):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    async with validator_at(HEAD_IP, {"round": 1, "rounds": 4, "loss": 0.5, "peers": 1, "peersConnected": 1}):
        for site in two_sites:
            await backend.start(cluster, site.namespace, "wdbc", HEAD_IP)
        for site in two_sites:
            await cluster.condition(TASK, site.namespace, "wdbc", "Training", "RoundsRunning", "True")
            await cluster.condition(SUBNET, site.namespace, "eu", "ExchangeReachable", "AsExpected", "True")
        sites = {site.namespace for site in two_sites}
        await at_rest(api_server, sites)
        seen = api_server.audit_size()
        for site in two_sites:  # wakes both objects; the annotation itself is the only write
            for kind, name in ((TASK, "wdbc"), (SUBNET, "eu")):
                cluster.patch(kind, site.namespace, name, {"metadata": {"annotations": {"test/wake": "1"}}})
        await asyncio.sleep(3)
        events = api_server.audit(seen)
    read = [e for e in events if e["verb"] == "get" and "covey-operator" in e["user"]["username"]]
    assert [e for e in read if (e.get("objectRef") or {}).get("namespace") in sites], "passes were run"
    assert writes_of_the_operator(events, sites) == []


async def test_the_status_comes_back_when_it_is_deleted(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await exists(cluster, POD, planner.namespace, "wdbc-head")
    await cluster.condition(TASK, planner.namespace, "wdbc", "ClusterReady", "PodsStarting", "False")

    def told(obj):
        return {
            **obj["status"],
            "conditions": [{**c, "lastTransitionTime": ""} for c in obj["status"]["conditions"]],
        }

    async def waits_for_the_head():
        obj = await cluster.get(TASK, planner.namespace, "wdbc")
        return told(obj) if "Waiting for the head pod" in obj["status"].get("message", "") else None

    before = await cluster.until("the head is awaited", waits_for_the_head)
    cluster.server.kubectl(
        "patch", "ft", "wdbc", "-n", planner.namespace, "--subresource=status", "--type=merge", "-p", '{"status": null}'
    )

    async def back():
        obj = await cluster.get(TASK, planner.namespace, "wdbc")
        return told(obj) if "status" in obj else None

    assert await cluster.until("a status again", back) == before


async def test_progress_of_the_validator_shows_in_the_status(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    answer = {
        "round": 2, "rounds": 4, "phase": "exchange", "loss": 0.123456789, "metrics": {"auc": 0.987654},
        "bytesSent": 4242, "rawBytes": 103_000, "payloadBytes": 1_000, "peers": 1, "peersConnected": 1,
        "etaSeconds": 75, "transactions": [{"purpose": "result", "hash": "0x" + "ab" * 32}],
    }  # fmt: skip
    async with validator_at(HEAD_IP, answer):
        await start_pods(cluster, planner.namespace, "wdbc", HEAD_IP)
        await cluster.condition(TASK, planner.namespace, "wdbc", "Training", "RoundsRunning", "True")
        status = (await cluster.get(TASK, planner.namespace, "wdbc"))["status"]
        await cluster.condition(SUBNET, planner.namespace, "eu", "ExchangeReachable", "AsExpected", "True")
    assert (status["phase"], status["rounds"], status["members"]) == ("Training", "2/4", "2/2")
    assert (status["loss"], status["metrics"], status["compressionRatio"]) == ("0.12346", {"auc": "0.98765"}, "103x")
    assert (status["eta"], status["bytesSent"]) == ("1m", 4242)
    purposes = [transaction["purpose"] for transaction in status["transactions"]]
    assert purposes == ["publish", "accept", "start", "result"]


async def test_a_settled_task_is_claimed_and_succeeds(cluster, two_sites, node, contracts):
    planner, other = two_sites
    cluster.apply(planner.task("wdbc", validation={"metric": "auc"}))
    stale = {
        "round": 3, "rounds": 4, "phase": "Voting", "loss": 0.5, "metrics": {"auc": 0.8}, "bytesSent": 900,
        "rawBytes": 1000, "payloadBytes": 10, "peers": 1, "peersConnected": 1, "etaSeconds": 75,
    }  # fmt: skip
    async with validator_at(HEAD_IP, stale):  # and never asked again
        for site in two_sites:
            await start_pods(cluster, site.namespace, "wdbc", HEAD_IP)
        for site in two_sites:
            await cluster.condition(TASK, site.namespace, "wdbc", "Training", "RoundsRunning", "True")
    assert (await cluster.get(TASK, other.namespace, "wdbc"))["status"]["eta"] == "1m"
    task_id = bytes.fromhex((await cluster.get(TASK, planner.namespace, "wdbc"))["status"]["taskId"][2:])
    digest = bytes(range(32))
    rewards = {planner.address: 120 * 10**18, other.address: 80 * 10**18}
    tree = RewardTree(rewards, task_id)
    result = RoundResult(
        task_id, 4, 0, digest, *(bytes(32),) * 2, tree.root, bytes(32), sum(rewards.values()), accepted=True, last=True
    )
    for site in two_sites:
        report = {
            "outcome": "Succeeded",
            "modelDigest": "0x" + digest.hex(),
            "modelLocation": "/output/wdbc/model.safetensors",
            "reward": str(rewards[site.address]),
            "rewardProof": ["0x" + part.hex() for part in tree.proof(site.address)],
            "round": 4,
            "progress": {
                "round": 4, "rounds": 4, "loss": "0.25", "metrics": {"auc": "0.9"}, "bytesSent": 1200,
                "rawBytes": 4000, "payloadBytes": 20, "transactions": [{"purpose": "result", "hash": RESULT_HASH}],
            },
        }  # fmt: skip
        status = ended({"ray-head": {"outcome": "Succeeded"}, "validator": report}, 0)
        cluster.set_pod_status(site.namespace, "wdbc-head", status)
        await cluster.condition(TASK, site.namespace, "wdbc", "Settled", "Settling", "Unknown")
    chain = await Chain.connect(node.url, node.chain_id, contracts.settlement)
    secrets = [await cluster.get(SECRET, site.namespace, "wdbc-session") for site in two_sites]
    keys = [read_entry(secret, "session.key").decode() for secret in secrets]
    signatures = {Wallet(chain, key).address: sign(chain.domain, result, bytes.fromhex(key[2:])) for key in keys}
    await Wallet(chain, node.keys[0]).post_result(result, b"", signatures)
    for site in two_sites:
        await cluster.condition(TASK, site.namespace, "wdbc", "Settled", "RewardClaimed", "True")
        await cluster.condition(TASK, site.namespace, "wdbc", "Succeeded", "AsExpected", "True")
        await gone(cluster, POD, site.namespace, "wdbc-worker-0")
        assert await cluster.get(POD, site.namespace, "wdbc-head") is not None, "the completed head is kept"
        assert await chain.claimed(task_id, site.address) == rewards[site.address]
    await chain.close()
    for site in two_sites:
        status = (await cluster.get(TASK, site.namespace, "wdbc"))["status"]
        shown = [status[key] for key in ("rounds", "members", "loss", "metric", "bytesSent", "compressionRatio")]
        assert shown == ["4/4", "2/2", "0.25", "auc=0.9", 1200, "200x"]
        assert "eta" not in status
        assert RESULT_HASH in [transaction["hash"] for transaction in status["transactions"]]
        await cluster.condition(SUBNET, site.namespace, "eu", "ExchangeReachable", "NotStarted", "Unknown")
    status = (await cluster.get(TASK, planner.namespace, "wdbc"))["status"]
    assert (status["phase"], status["reward"], status["claimed"], status["rounds"]) == (
        "Succeeded",
        "120",
        "120",
        "4/4",
    )
    assert status["model"] == {"digest": "0x" + digest.hex(), "location": "models/wdbc/model.safetensors"}

    cluster.delete(POD, planner.namespace, "wdbc-head")
    await gone(cluster, POD, planner.namespace, "wdbc-head")
    cluster.patch(TASK, planner.namespace, "wdbc", {"metadata": {"annotations": {"test/wake": "1"}}})
    await asyncio.sleep(1)
    assert await cluster.get(POD, planner.namespace, "wdbc-head") is None, "what has ended does not start again"
    await cluster.condition(TASK, planner.namespace, "wdbc", "Succeeded", "AsExpected", "True")

    async def earned():
        return (await cluster.get(SUBNET, other.namespace, "eu"))["status"].get("earned") == "80"

    await cluster.until("earned is shown", earned)


@BOTH
async def test_an_error_of_the_program_ends_the_task_here(cluster, two_sites, backend):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    head = await backend.start(cluster, planner.namespace, "wdbc", HEAD_IP)
    report = {"outcome": "Failed", "reason": "EntrypointNotFound", "message": "No class Program.", "userError": True}
    status = ended({"ray-head": report, "validator": {**report, "userError": False}}, 1)
    cluster.set_pod_status(planner.namespace, name_of(head), status)
    await backend.reconcile(cluster, planner.namespace, "wdbc")  # KubeRay would have the head gone by now
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "Failed", "EntrypointNotFound", "True")
    assert told.message == "No class Program."
    for pod in await backend.pods(cluster, planner.namespace, "wdbc", "head"):
        cluster.delete(POD, planner.namespace, name_of(pod))
    await backend.no_pods(cluster, planner.namespace, "wdbc")
    await asyncio.sleep(1)
    await backend.no_pods(cluster, planner.namespace, "wdbc")  # an error of the user is not tried again


@BOTH
async def test_a_lost_head_comes_again_and_workers_follow_it(cluster, two_sites, backend):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    first = await backend.start(cluster, planner.namespace, "wdbc", HEAD_IP)
    before = {pod["metadata"]["uid"] for pod in await backend.pods(cluster, planner.namespace, "wdbc", "worker")}
    cluster.set_pod_status(planner.namespace, name_of(first), {"phase": "Failed", "reason": "Evicted"})
    second = await backend.head(cluster, planner.namespace, "wdbc", other_than=first["metadata"]["uid"])
    cluster.set_pod_status(planner.namespace, name_of(second), running("127.77.3.2", ["ray-head", "validator"]))

    async def replaced():
        workers = await backend.workers(cluster, planner.namespace, "wdbc")
        return not before & {pod["metadata"]["uid"] for pod in workers}

    await cluster.until("workers of the new head", replaced)
    assert (await cluster.get(TASK, planner.namespace, "wdbc"))["status"]["restarts"] == 1


@BOTH
async def test_a_member_changes_the_number_of_its_workers(cluster, two_sites, backend):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    first = await backend.start(cluster, planner.namespace, "wdbc", HEAD_IP)
    cluster.patch(TASK, planner.namespace, "wdbc", {"spec": {"participation": {"workers": 3}}})
    second = await backend.head(cluster, planner.namespace, "wdbc", other_than=first["metadata"]["uid"])
    cluster.set_pod_status(planner.namespace, name_of(second), running("127.77.3.2", ["ray-head", "validator"]))
    assert len(await backend.workers(cluster, planner.namespace, "wdbc", count=3)) == 3
    assert {"name": "COVEY_WORKERS", "value": "3"} in second["spec"]["containers"][0]["env"]


@BOTH
async def test_suspend_frees_the_pods_and_keeps_the_state(cluster, two_sites, backend):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    first = await backend.start(cluster, planner.namespace, "wdbc", HEAD_IP)
    cluster.patch(TASK, planner.namespace, "wdbc", {"spec": {"suspend": True}})
    await cluster.condition(TASK, planner.namespace, "wdbc", "Training", "Suspended", "False")
    await backend.no_pods(cluster, planner.namespace, "wdbc")
    assert await cluster.get(CLAIM, planner.namespace, "wdbc-state") is not None
    cluster.patch(TASK, planner.namespace, "wdbc", {"spec": {"suspend": False}})
    assert await backend.head(cluster, planner.namespace, "wdbc", other_than=first["metadata"]["uid"])


@BOTH
async def test_a_suspended_task_whose_state_was_deleted_begins_with_a_new_claim(cluster, two_sites, backend):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    first = await backend.start(cluster, planner.namespace, "wdbc", HEAD_IP)
    cluster.patch(TASK, planner.namespace, "wdbc", {"spec": {"suspend": True}})
    await backend.no_pods(cluster, planner.namespace, "wdbc")
    lost = await cluster.get(CLAIM, planner.namespace, "wdbc-state")
    cluster.delete(CLAIM, planner.namespace, "wdbc-state")
    cluster.patch(TASK, planner.namespace, "wdbc", {"spec": {"suspend": False}})

    async def anew():
        claim = await cluster.get(CLAIM, planner.namespace, "wdbc-state")
        return claim is not None and uid_of(claim) != uid_of(lost)

    await cluster.until("there is a new claim", anew)
    assert await backend.head(cluster, planner.namespace, "wdbc", other_than=first["metadata"]["uid"])


@BOTH
async def test_a_task_that_is_deleted_leaves_no_pod(cluster, two_sites, backend):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await backend.start(cluster, planner.namespace, "wdbc", HEAD_IP)
    cluster.delete(TASK, planner.namespace, "wdbc")
    await gone(cluster, TASK, planner.namespace, "wdbc")
    await backend.no_pods(cluster, planner.namespace, "wdbc")
