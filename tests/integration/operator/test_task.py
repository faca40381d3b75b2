"""Tasks against a real API server and a real chain: published, mirrored, answered, started, run, settled, deleted."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web
from covey_api.task import Decision
from covey_chain.client import Chain
from covey_chain.merkle import RewardTree
from covey_chain.signing import sign
from covey_chain.types import RoundResult, TaskStatus
from covey_chain.wallet import Wallet
from covey_cli.answer import answer
from covey_cli.cluster import Place
from covey_cli.errors import CommandError
from covey_operator.keys import read_entry
from covey_operator.kinds import (
    CLAIM,
    CONFIG_MAP,
    NETWORK_POLICY,
    POD,
    SECRET,
    SERVICE,
    SUBNET,
    TASK,
    annotations_of,
    name_of,
)

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("operator")]

RESULT_HASH = "0x" + "ab" * 32
HEAD_IP = "127.77.3.1"  # an address of loopback: the test plays the validator there


async def joined(cluster, member, **subnet):
    """A member whose Subnet is Ready."""
    site = await member()
    cluster.apply(site.subnet(**subnet))
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    return site


async def exists(cluster, kind, namespace, name):
    return await cluster.until(f"{kind.kind} {name}", lambda: cluster.get(kind, namespace, name))


async def gone(cluster, kind, namespace, name):
    async def check():
        return await cluster.get(kind, namespace, name) is None

    await cluster.until(f"{kind.kind} {name} gone", check)


def running(ip, containers, ready=True):
    """Status of a pod that runs, as a kubelet would write it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{"ip": ip}],
        "conditions": [{"type": "Ready", "status": str(ready), "lastTransitionTime": now}],
        "containerStatuses": [
            {
                "name": name,
                "image": "i",
                "imageID": "i",
                "ready": ready,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for name in containers
        ],
    }


def ended(messages, exit_code):
    """Status of a pod whose containers have ended, with their termination messages."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "phase": "Failed" if exit_code else "Succeeded",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}],
        "containerStatuses": [
            {
                "name": name,
                "image": "i",
                "imageID": "i",
                "ready": False,
                "restartCount": 0,
                "state": {
                    "terminated": {
                        "exitCode": exit_code,
                        "finishedAt": now,
                        "startedAt": now,
                        "message": json.dumps(message),
                    }
                },
            }
            for name, message in messages.items()
        ],
    }


@asynccontextmanager
async def validator_at(ip, answer):
    """Something that answers like a validator's status port."""

    async def status(_):
        return web.json_response(answer)

    app = web.Application()
    app.add_routes([web.get("/status", status)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, ip, 9464).start()
    yield
    await runner.cleanup()


async def start_pods(cluster, namespace, task, ip):
    """Play the kubelet until head and workers are ready."""
    await exists(cluster, POD, namespace, f"{task}-head")
    cluster.set_pod_status(namespace, f"{task}-head", running(ip, ["ray-head", "validator"]))
    for index in range(2):
        await exists(cluster, POD, namespace, f"{task}-worker-{index}")
        cluster.set_pod_status(namespace, f"{task}-worker-{index}", running("127.77.3.9", ["ray-worker"]))


@pytest.fixture
async def two_sites(cluster, member):
    """A Planner that trains too, and a member that joins automatically, both Ready."""
    sites = [await member(), await member()]
    for site in sites:
        cluster.apply(site.subnet())
    for site in sites:
        await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    return sites


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
    balance = (await cluster.get(SUBNET, planner.namespace, "eu"))["status"]["balance"]
    assert balance == "8800"


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
    assert "leaves the running task" in answer(place, "wdbc", Decision.DECLINE)
    await gone(cluster, POD, other.namespace, "wdbc-head")
    await cluster.condition(TASK, other.namespace, "wdbc", "Training", "DeclinedByPerson", "False")
    assert "the pods start again" in answer(place, "wdbc", Decision.JOIN)
    await exists(cluster, POD, other.namespace, "wdbc-head")


async def test_a_pass_without_change_writes_nothing(cluster, two_sites, operator, api_server):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    async with validator_at(HEAD_IP, {"round": 1, "rounds": 4, "loss": 0.5, "peers": 1, "peersConnected": 1}):
        for site in two_sites:
            await start_pods(cluster, site.namespace, "wdbc", HEAD_IP)
        for site in two_sites:
            await cluster.condition(TASK, site.namespace, "wdbc", "Training", "RoundsRunning", "True")
            await cluster.condition(SUBNET, site.namespace, "eu", "ExchangeReachable", "AsExpected", "True")
        sites = {site.namespace for site in two_sites}
        await asyncio.sleep(1)  # the chain's last block and the last event settle
        seen = len(api_server.audit())
        for site in two_sites:  # wakes both objects; the annotation itself is the only write
            for kind, name in ((TASK, "wdbc"), (SUBNET, "eu")):
                cluster.patch(kind, site.namespace, name, {"metadata": {"annotations": {"test/wake": "1"}}})
        await asyncio.sleep(3)
        requests = [
            event
            for event in api_server.audit()[seen:]
            if "covey-operator" in event["user"]["username"]
            and (event.get("objectRef") or {}).get("namespace") in sites
        ]
    assert [event for event in requests if event["verb"] == "get"], "passes were run"
    written = [event for event in requests if event["verb"] not in ("get", "list", "watch")]
    assert [(event["verb"], event["requestURI"]) for event in written] == []


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
        task_id, 4, 0, digest, bytes(32), bytes(32), tree.root, sum(rewards.values()), accepted=True, last=True
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
    await Wallet(chain, node.keys[0]).post_result(result, signatures)
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


async def test_an_error_of_the_program_ends_the_task_here(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await start_pods(cluster, planner.namespace, "wdbc", HEAD_IP)
    report = {"outcome": "Failed", "reason": "EntrypointNotFound", "message": "No class Program.", "userError": True}
    status = ended({"ray-head": report, "validator": {**report, "userError": False}}, 1)
    cluster.set_pod_status(planner.namespace, "wdbc-head", status)
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "Failed", "EntrypointNotFound", "True")
    assert told.message == "No class Program."
    await gone(cluster, POD, planner.namespace, "wdbc-worker-0")
    cluster.delete(POD, planner.namespace, "wdbc-head")
    await gone(cluster, POD, planner.namespace, "wdbc-head")
    await asyncio.sleep(1)
    assert await cluster.get(POD, planner.namespace, "wdbc-head") is None, "an error of the user is not tried again"


async def test_a_lost_head_comes_again_and_workers_follow_it(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await start_pods(cluster, planner.namespace, "wdbc", HEAD_IP)
    first = await cluster.get(POD, planner.namespace, "wdbc-head")
    cluster.delete(POD, planner.namespace, "wdbc-head")

    async def another():
        head = await cluster.get(POD, planner.namespace, "wdbc-head")
        return head is not None and head["metadata"]["uid"] != first["metadata"]["uid"] and head

    head = await cluster.until("a new head", another)
    cluster.set_pod_status(planner.namespace, "wdbc-head", running("127.77.3.2", ["ray-head", "validator"]))

    async def bound():
        worker = await cluster.get(POD, planner.namespace, "wdbc-worker-0")
        return worker is not None and annotations_of(worker)["covey.dev/head-uid"] == head["metadata"]["uid"]

    await cluster.until("workers of the new head", bound)
    assert (await cluster.get(TASK, planner.namespace, "wdbc"))["status"]["restarts"] == 1


async def test_suspend_frees_the_pods_and_keeps_the_state(cluster, two_sites):
    planner, _ = two_sites
    cluster.apply(planner.task("wdbc"))
    await start_pods(cluster, planner.namespace, "wdbc", HEAD_IP)
    cluster.patch(TASK, planner.namespace, "wdbc", {"spec": {"suspend": True}})
    await cluster.condition(TASK, planner.namespace, "wdbc", "Training", "Suspended", "False")
    for name in ("wdbc-head", "wdbc-worker-0", "wdbc-worker-1"):
        await gone(cluster, POD, planner.namespace, name)
    assert await cluster.get(CLAIM, planner.namespace, "wdbc-state") is not None
    cluster.patch(TASK, planner.namespace, "wdbc", {"spec": {"suspend": False}})
    await exists(cluster, POD, planner.namespace, "wdbc-head")


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


async def test_a_missing_claim_is_told_and_mended(cluster, member):
    planner = await member(claims=("models",))
    cluster.apply(planner.subnet())
    await cluster.condition(SUBNET, planner.namespace, "eu", "Ready", "AsExpected", "True")
    cluster.apply(planner.task("wdbc", members={"min": 1, "max": 1}, rounds={"count": 1, "minUpdates": 1}))
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "ClusterReady", "ClaimNotFound", "False")
    assert "data" in told.message
    planner.prepare()
    await exists(cluster, POD, planner.namespace, "wdbc-head")


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
    await cluster.condition(TASK, planner.namespace, "wdbc", "Published", "AsExpected", "True")
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


async def test_what_the_api_server_refuses_is_told_and_mended(cluster, member):
    planner = await joined(cluster, member)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": planner.namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    cluster.apply(quota)

    async def counted():
        listed = cluster.server.kubectl("get", "resourcequota", "none", "-n", planner.namespace, "-o", "json")
        return "hard" in json.loads(listed).get("status", {})

    await cluster.until("the quota is counted", counted)
    cluster.apply(planner.task("wdbc", members={"min": 1, "max": 1}, rounds={"count": 1, "minUpdates": 1}))
    told = await cluster.condition(TASK, planner.namespace, "wdbc", "ClusterReady", "PodsUnschedulable", "False")
    assert "exceeded quota" in told.message
    cluster.server.kubectl("delete", "resourcequota", "none", "-n", planner.namespace)
    await exists(cluster, POD, planner.namespace, "wdbc-head")


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
