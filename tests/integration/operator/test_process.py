"""The operator as a process: its end points, its Lease, its rights in one namespace, and how it dies and comes back."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
import yaml
from covey_dev.operator import LEASE_RULES, OPERATOR_NAMESPACE, RULES
from covey_operator.kinds import POD, SUBNET, TASK

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("alone")]


def fetch(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def ready(cluster, port):
    async def check():
        return fetch(port, "/readyz")[0] == 200

    await cluster.until("the operator is ready", check)


async def leads(process):
    return "covey_operator_leader 1.0" in fetch(process.port(), "/metrics")[1]


def stands_by(process):
    """Whether it has lost the Lease, stopped all work, and serves anew."""

    async def check():
        _, _, since = process.text().partition("all work has stopped, and this operator stands by")
        return "serves metrics" in since

    return check


async def test_health_and_metrics(cluster, another_operator):
    with another_operator() as process:
        port = process.port()
        await ready(cluster, port)
        assert fetch(port, "/healthz") == (200, "ok\n")
        status, text = fetch(port, "/metrics")
        assert status == 200
        assert "covey_operator_leader 1.0" in text
        assert 'covey_operator_api_requests_total{code="200",kind="Subnet",verb="list"}' in text
        assert process.terminate() == 0, process.text()


async def test_wrong_settings_are_named_and_end_the_process(another_operator):
    with another_operator(COVEY_RECONCILE_WORKERS="many") as process:
        assert process.exit_status() == 2
        assert "COVEY_RECONCILE_WORKERS" in process.text()


async def test_one_works_the_other_takes_over(cluster, another_operator):
    with another_operator(COVEY_LEADER_ELECTION="true") as first:
        await ready(cluster, first.port())
        with another_operator(COVEY_LEADER_ELECTION="true") as second:
            port = second.port()
            await ready(cluster, port)  # a standby, too
            assert "covey_operator_leader 0.0" in fetch(port, "/metrics")[1]
            first.kill()
            await cluster.until("the second leads", lambda: leads(second), limit_seconds=25)
            assert second.terminate() == 0, second.text()


async def test_a_standby_follows_the_chain_before_it_leads(cluster, member, another_operator):
    site = await member()
    cluster.apply(site.subnet())
    with another_operator(COVEY_LEADER_ELECTION="true") as first:
        await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
        await ready(cluster, first.port())
        with another_operator(COVEY_LEADER_ELECTION="true") as second:
            await ready(cluster, second.port())
            text = fetch(second.port(), "/metrics")[1]
            assert "covey_operator_chain_block{" in text
            assert "covey_operator_leader 0.0" in text
            assert 'covey_operator_reconcile_total{kind="Subnet",result="success"} 0.0' in text, "and does no pass"
            assert second.terminate() == 0, second.text()
        cluster.delete(SUBNET, site.namespace, "eu")

        async def gone():
            return await cluster.get(SUBNET, site.namespace, "eu") is None

        await cluster.until("the Subnet is gone", gone)
        assert first.terminate() == 0, first.text()


async def test_who_ends_in_order_gives_the_lease_back(cluster, another_operator):
    with another_operator(COVEY_LEADER_ELECTION="true") as first:
        await cluster.until("it leads", lambda: leads(first))
        assert first.terminate() == 0, first.text()
    held_by = ("get", "lease", "covey-operator", "-n", OPERATOR_NAMESPACE, "-o", "jsonpath={.spec.holderIdentity}")
    assert cluster.server.kubectl(*held_by) == ""
    with another_operator(COVEY_LEADER_ELECTION="true") as second:
        await cluster.until("the next one leads", lambda: leads(second))


async def test_who_was_frozen_while_another_took_over_stands_by(cluster, another_operator):
    with another_operator(COVEY_LEADER_ELECTION="true") as first:
        await cluster.until("the first leads", lambda: leads(first))
        with another_operator(COVEY_LEADER_ELECTION="true") as second:
            await ready(cluster, second.port())
            first.pause()
            await cluster.until("the second leads", lambda: leads(second), limit_seconds=60)
            first.resume()
            await cluster.until("it has noticed", stands_by(first))
            assert await leads(second)
            assert not await leads(first)
            assert second.terminate() == 0, second.text()
        await cluster.until("the first leads again", lambda: leads(first))
        assert first.terminate() == 0, first.text()


async def test_an_operator_that_loses_its_lease_stops_working_and_stands_by(cluster, another_operator):
    with another_operator(COVEY_LEADER_ELECTION="true") as process:
        await cluster.until("it leads", lambda: leads(process), limit_seconds=25)
        patch = '{"spec": {"holderIdentity": "somebody-else", "leaseDurationSeconds": 600}}'
        cluster.server.kubectl(
            "patch", "lease", "covey-operator", "-n", OPERATOR_NAMESPACE, "--type=merge", "-p", patch
        )
        await cluster.until("it has noticed", stands_by(process))
        await ready(cluster, process.port())
        assert not await leads(process)
        cluster.server.kubectl("delete", "lease", "covey-operator", "-n", OPERATOR_NAMESPACE)
        await cluster.until("it leads again, as the same process", lambda: leads(process))
        assert process.terminate() == 0, process.text()


async def test_roles_in_one_namespace_are_enough_and_a_killed_operator_goes_on(
    cluster, member, api_server, operators, tmp_path
):
    site = await member()
    namespace = site.namespace
    account = {"kind": "ServiceAccount", "name": "namespaced", "namespace": namespace}
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "namespaced", "namespace": namespace}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "namespaced", "namespace": namespace}},
        {**role, "rules": [*RULES, *LEASE_RULES]},
        {
            **role,
            "kind": "RoleBinding",
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "namespaced"},
            "subjects": [account],
        },
    )
    token = api_server.kubectl("create", "token", "namespaced", "-n", namespace).strip()
    content = yaml.safe_load(api_server.kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(content))
    settings = {
        "KUBECONFIG": str(kubeconfig),
        "COVEY_NAMESPACE": namespace,
        "COVEY_WATCH_NAMESPACES": namespace,
        "COVEY_LEADER_ELECTION": "true",
    }
    cluster.apply(site.subnet(), site.task("wdbc", members={"min": 1, "max": 1}, rounds={"count": 1, "minUpdates": 1}))
    for step in ("Ready", "Published", "Accepted", "head"):
        process = operators.start(**settings)
        try:
            if step == "Ready":
                await cluster.condition(SUBNET, namespace, "eu", "Ready", "AsExpected", "True")
            elif step == "Published":
                await cluster.condition(TASK, namespace, "wdbc", "Published", "ShortTask", "True")
            elif step == "Accepted":
                await cluster.condition(TASK, namespace, "wdbc", "Accepted", "AcceptedByPolicy", "True")
            else:
                await cluster.until("the head pod", lambda: cluster.get(POD, namespace, "wdbc-head"))
        finally:
            process.kill()
        assert "forbidden: User" not in process.text(), process.text()
        cluster.server.kubectl("delete", "lease", "covey-operator", "-n", namespace, "--ignore-not-found")
    balance = (await cluster.get(SUBNET, namespace, "eu"))["status"]["stake"]
    assert balance == "1000", "nothing was done twice"
    process = operators.start(**settings)
    try:
        for kind, name in ((TASK, "wdbc"), (SUBNET, "eu")):
            cluster.delete(kind, namespace, name)

            async def gone(kind=kind, name=name):
                return await cluster.get(kind, namespace, name) is None

            await cluster.until(f"{name} is gone", gone)
    finally:
        assert process.terminate() == 0, process.text()
