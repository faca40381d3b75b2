"""An API server that misbehaves, an operator that dies at any moment, and two that work side by side."""

from __future__ import annotations

import asyncio
import base64
import random
from itertools import cycle

import pytest
from audited import at_rest, writes_of_the_operator
from covey_operator.kinds import (
    CONFIG_MAP,
    NETWORK_POLICY,
    POD,
    SECRET,
    SERVICE,
    SUBNET,
    TASK,
    name_of,
    uid_of,
)
from covey_operator.plan import names
from covey_operator.plan.storage import secret
from faulty_api import (
    BROKEN,
    BUSY,
    CONFLICT,
    EXPIRED,
    LOST_ANSWER,
    RESET,
    UNAVAILABLE,
    WATCH_BROKEN,
    FaultyApi,
    is_watch,
)
from kubernetes.aio.client.exceptions import ApiException
from operator_pods import HEAD_IP, gone, start_pods, validator_at

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("alone")]

PATIENCE_SECONDS = 180.0  # with failures and restarts in between
ALONE = {"members": {"min": 1, "max": 1}, "rounds": {"count": 1, "minUpdates": 1}}


@pytest.fixture
async def faulty(api_server):
    async with FaultyApi(api_server).running() as proxy:
        yield proxy


@pytest.fixture
def through(faulty, operators, tmp_path):
    """Settings of an operator that reaches the API server by way of the proxy and serves one namespace."""
    kubeconfig = faulty.kubeconfig(operators.kubeconfig, tmp_path / "kubeconfig")

    def settings(namespace):
        return {"KUBECONFIG": str(kubeconfig), "COVEY_WATCH_NAMESPACES": namespace, "COVEY_RESYNC_SECONDS": "3"}

    return settings


async def head_of(cluster, site):
    return await cluster.until("the head pod", lambda: cluster.get(POD, site.namespace, "wdbc-head"), PATIENCE_SECONDS)


async def leave(cluster, site):
    """Delete task and Subnet while an operator is there to finish them."""
    for kind, name in ((TASK, "wdbc"), (SUBNET, "eu")):
        cluster.delete(kind, site.namespace, name)

        async def is_gone(kind=kind, name=name):
            return await cluster.get(kind, site.namespace, name) is None

        await cluster.until(f"{name} is gone", is_gone, PATIENCE_SECONDS)


async def paid_once(cluster, site):
    """The stake of 1000 and the bounty of 200 have left the 10,000, each once."""

    async def told():
        status = (await cluster.get(SUBNET, site.namespace, "eu"))["status"]
        return (status.get("stake"), status.get("balance")) == ("1000", "8800")

    await cluster.until("stake and bounty were paid once", told, PATIENCE_SECONDS)


async def test_one_answer_in_thirty_and_most_watches_may_fail(cluster, member, faulty, through, another_operator):
    site = await member()
    dice = random.Random(7)
    kinds = (CONFLICT, BUSY, BROKEN, UNAVAILABLE, RESET, LOST_ANSWER)
    answers, watches = cycle(kinds), cycle((EXPIRED, RESET, BUSY, None))

    def decide(request):
        if is_watch(request):
            return next(watches)
        return next(answers) if dice.random() < 1 / 30 else None

    async def all_came():
        return set(faulty.injected) == {fault.name for fault in (*kinds, EXPIRED)}

    faulty.decide = decide
    with another_operator(**through(site.namespace)) as process:
        cluster.apply(site.subnet(), site.task("wdbc", **ALONE))
        await head_of(cluster, site)
        await cluster.until("every failure has come", all_came, PATIENCE_SECONDS)
        await paid_once(cluster, site)
        await leave(cluster, site)
        assert process.running, process.text()[-5000:]
        assert "Traceback" not in process.text(), process.text()[-5000:]


async def test_a_watch_that_ends_for_good_ends_the_process(member, faulty, through, another_operator):
    """It would go on without any news of pods; the kubelet starts it anew."""
    site = await member()
    faulty.decide = lambda request: WATCH_BROKEN if is_watch(request) and "pods" in request.path else None
    with another_operator(**through(site.namespace)) as process:
        assert await asyncio.to_thread(process.exit_status) == 1
        assert "Error in the watch-stream" in process.text()


async def test_an_outage_of_the_api_server_is_waited_out(cluster, member, faulty, through, another_operator):
    site = await member()
    with another_operator(**through(site.namespace)) as process:
        cluster.apply(site.subnet())
        await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
        faulty.decide = lambda _: RESET
        faulty.break_all()
        cluster.apply(site.task("wdbc", **ALONE))
        await cluster.until("the operator has tried", lambda: tried(faulty, 20), PATIENCE_SECONDS)
        faulty.decide = lambda _: None
        await head_of(cluster, site)
        assert process.running, process.text()[-5000:]
        await leave(cluster, site)


async def tried(faulty, times):
    return faulty.injected["reset"] >= times


async def test_an_operator_that_dies_after_every_few_writes_does_nothing_twice(
    cluster, member, faulty, through, operators
):
    """Every life ends when the API server has answered its first to third write, before the operator hears of it."""
    site = await member()
    cluster.apply(site.subnet(), site.task("wdbc", **ALONE))
    dice, lives = random.Random(11), 0
    while await cluster.get(POD, site.namespace, "wdbc-head") is None:
        lives += 1
        assert lives <= 60, "no progress"
        process = operators.start(**through(site.namespace))
        left = iter(range(dice.randint(0, 2)))
        faulty.told = lambda process=process, left=left: None if next(left, None) is not None else process.die()
        try:
            await asyncio.to_thread(process.exit_status, PATIENCE_SECONDS)
        finally:
            process.kill()
    assert lives > 5, "it died at many of its steps"
    process = operators.start(**through(site.namespace))
    faulty.told = lambda: None
    try:
        await paid_once(cluster, site)
        await leave(cluster, site)
    finally:
        assert process.terminate() == 0, process.text()[-5000:]


async def test_an_operator_that_was_away_while_pods_were_lost_goes_on(cluster, member, operators, through):
    site = await member()
    cluster.apply(site.subnet(), site.task("wdbc", **ALONE))
    process = operators.start(**through(site.namespace))
    try:
        head = await head_of(cluster, site)
    finally:
        process.kill()
    cluster.delete(POD, site.namespace, "wdbc-head")
    await gone(cluster, POD, site.namespace, "wdbc-head")
    process = operators.start(**through(site.namespace))
    try:
        again = await head_of(cluster, site)
        assert again["metadata"]["uid"] != head["metadata"]["uid"]
        await leave(cluster, site)
    finally:
        assert process.terminate() == 0, process.text()[-5000:]


async def test_one_that_starts_beside_a_running_task_writes_nothing(cluster, member, api_server, another_operator):
    """Or each restart would tell of every task that it does not train, and then that it does."""
    site = await member()
    serve = {"COVEY_WATCH_NAMESPACES": site.namespace}
    async with validator_at(HEAD_IP, {"round": 0, "rounds": 1, "peers": 1, "peersConnected": 1}):
        with another_operator(**serve):
            cluster.apply(site.subnet(), site.task("wdbc", **ALONE))
            await start_pods(cluster, site.namespace, "wdbc", HEAD_IP)
            await cluster.condition(TASK, site.namespace, "wdbc", "Training", "RoundsRunning", "True")
            await cluster.condition(SUBNET, site.namespace, "eu", "ExchangeReachable", "AsExpected", "True")
            await at_rest(api_server, {site.namespace})
        seen = api_server.audit_size()
        with another_operator(**serve) as second:

            async def looked():
                read = [e for e in api_server.audit(seen) if e["verb"] == "get"]
                return {"subnets", "federatedtasks"} <= {(e.get("objectRef") or {}).get("resource") for e in read}

            await cluster.until("passes were run", looked)
            await asyncio.sleep(8)  # longer than a Subnet waits for what its tasks say
            assert writes_of_the_operator(api_server.audit(seen), {site.namespace}) == []
            assert second.running, second.text()[-5000:]
            await leave(cluster, site)


async def test_what_somebody_takes_from_a_task_comes_back_at_once(cluster, member, another_operator):
    """Far sooner than the next look at everything: without its policies a task's network would be open."""
    site = await member()
    with another_operator(COVEY_WATCH_NAMESPACES=site.namespace, COVEY_RESYNC_SECONDS="600"):
        cluster.apply(site.subnet(), site.task("wdbc", **ALONE))
        await head_of(cluster, site)

        async def there(kind):
            children = await cluster.kube.list_all(kind, site.namespace, f"{names.TASK}=wdbc")
            return {name_of(child): uid_of(child) for child in children}

        for kind in (NETWORK_POLICY, SERVICE, CONFIG_MAP):
            before = await there(kind)
            assert before
            for name in before:
                cluster.delete(kind, site.namespace, name)

            async def again(kind=kind, before=before):
                found = await there(kind)
                return found.keys() == before.keys() and not set(found.values()) & set(before.values())

            await cluster.until(f"every {kind.kind} is there again", again)
        await leave(cluster, site)


async def test_two_that_work_side_by_side_do_no_harm(cluster, member, api_server, another_operator):
    """As when a Lease has passed on and the old holder does not know it yet."""
    site = await member()
    serve = {"COVEY_WATCH_NAMESPACES": site.namespace}
    with another_operator(**serve) as first, another_operator(**serve) as second:
        cluster.apply(site.subnet(), site.task("wdbc", **ALONE))
        await head_of(cluster, site)
        await paid_once(cluster, site)
        await at_rest(api_server, {site.namespace})
        seen = api_server.audit_size()
        for kind, name in ((TASK, "wdbc"), (SUBNET, "eu")):
            cluster.patch(kind, site.namespace, name, {"metadata": {"annotations": {"test/wake": "1"}}})
        await asyncio.sleep(3)
        assert writes_of_the_operator(api_server.audit(seen), {site.namespace}) == [], "they do not fight"
        for process in (first, second):
            assert process.running, process.text()[-5000:]
            assert "Traceback" not in process.text(), process.text()[-5000:]
        await leave(cluster, site)


async def test_two_that_try_the_same_in_vain_do_not_wake_each_other(cluster, member, api_server, another_operator):
    site = await member()
    serve = {"COVEY_WATCH_NAMESPACES": site.namespace, "COVEY_ERROR_RETRY_SECONDS": "1"}
    with another_operator(**serve), another_operator(**serve):
        cluster.apply(site.subnet(), site.task("wdbc", **ALONE, bounty={"amount": "99999"}))
        await cluster.condition(TASK, site.namespace, "wdbc", "Published", "InsufficientFunds", "False")
        await at_rest(api_server, {site.namespace})
        seen = api_server.audit_size()
        await asyncio.sleep(5)  # a few tries
        assert writes_of_the_operator(api_server.audit(seen), {site.namespace}) == [], "it is told once"
        await leave(cluster, site)


async def test_a_key_that_another_operator_has_just_made_stays(cluster, member):
    """The chain takes a session key once: were it overwritten, the one in use could never come back."""
    site = await member()
    cluster.apply(site.subnet())
    owner = await cluster.get(SUBNET, site.namespace, "eu")

    def key(text):
        return secret("key", site.namespace, {}, {"key": base64.b64encode(text).decode()})

    def make(text, usable):
        return cluster.kube.make_once(key(text), owner, lambda _: usable)

    made = await asyncio.gather(*(make(f"{i}".encode(), True) for i in range(8)), return_exceptions=True)
    refused = [one for one in made if isinstance(one, ApiException)]
    assert {one.status for one in refused} <= {409}, "they try again"
    kept = await cluster.get(SECRET, site.namespace, "key")
    assert {one["metadata"]["uid"] for one in made if one not in refused} == {kept["metadata"]["uid"]}
    assert {one["data"]["key"] for one in made if one not in refused} == {kept["data"]["key"]}
    assert (await make(b"late", True))["data"] == kept["data"]
    replaced = await make(b"fresh", False)
    assert (replaced["metadata"]["uid"], replaced["data"]) == (kept["metadata"]["uid"], key(b"fresh")["data"])
    cluster.delete(SUBNET, site.namespace, "eu")
