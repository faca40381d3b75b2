"""A Subnet against a real API server and a real chain: it registers and stakes by itself, and says what is wrong."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from covey_chain.anvil import free_port
from covey_chain.client import Chain
from covey_operator.kinds import EVENT, SECRET, SUBNET

SIGNER = str(Path(__file__).parents[2] / "contract/signer_process.py")

pytestmark = [pytest.mark.apiserver, pytest.mark.chain, pytest.mark.usefixtures("operator")]


async def test_a_subnet_registers_and_stakes_by_itself(cluster, member, node, contracts):
    site = await member()
    cluster.apply(site.subnet())
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    chain = await Chain.connect(node.url, node.chain_id, contracts.settlement)
    consortium = await chain.consortium("oncology-eu")
    found = await chain.member(consortium.id, site.address)
    await chain.close()
    assert found is not None
    assert (found.roles, found.stake) == (7, 1000 * 10**18)
    status = (await cluster.get(SUBNET, site.namespace, "eu"))["status"]
    assert status["address"] == site.address
    assert (status["stake"], status["balance"]) == ("1000", "9000")
    assert site.address in [one["address"] for one in status["members"]]
    tls = await cluster.get(SECRET, site.namespace, "eu-exchange")
    assert tls["metadata"]["ownerReferences"][0]["kind"] == "Subnet"
    assert set(tls["data"]) == {"tls.key", "tls.crt"}


async def test_a_wrong_wallet_key_is_told_and_mended(cluster, member):
    site = await member(key="0xnothexatall")
    cluster.apply(site.subnet())
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "BadWalletKey", "False")
    assert "64 hex digits" in told.message
    assert "nothexatall" not in told.message
    await asyncio.sleep(5)  # two more tries
    events = [
        event
        for event in await cluster.kube.list_all(EVENT, site.namespace)
        if event["involvedObject"]["name"] == "eu" and event["type"] == "Warning"
    ]
    assert {event["reason"] for event in events} == {"BadWalletKey"}
    assert len(events) == 1, "one event for a transition, none for a retry"
    site.prepare()
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")


async def test_a_missing_wallet_secret_is_told(cluster, member):
    site = await member(funded=False)
    subnet = site.subnet()
    subnet["spec"]["chain"]["walletSecret"] = {"name": "elsewhere"}
    cluster.apply(subnet)
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "WalletSecretNotFound", "False")
    assert "elsewhere" in told.message


async def test_a_member_whose_key_is_outside_of_the_cluster_waits_for_its_signer(cluster, member):
    site, port = await member(key="0xnot-here"), free_port()
    subnet = site.subnet()
    del subnet["spec"]["chain"]["walletSecret"]
    subnet["spec"]["chain"]["signer"] = {"url": f"http://me:hidden@127.0.0.1:{port}", "address": site.address}
    cluster.apply(subnet)
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "SignerUnavailable", "False")
    assert f"127.0.0.1:{port}" in told.message
    assert "hidden" not in told.message
    command = [sys.executable, SIGNER, str(port), str(site.node.chain_id), site.key]
    signer = await asyncio.create_subprocess_exec(*command)
    try:
        await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    finally:
        signer.terminate()
        await signer.wait()


async def test_a_member_goes_on_through_the_second_node(cluster, member):
    site = await member()
    subnet = site.subnet()
    subnet["spec"]["chain"] |= {"rpcUrl": "http://127.0.0.1:9", "fallbackRpcUrls": [site.node.url]}
    cluster.apply(subnet)
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")


async def test_a_dead_rpc_is_told_as_such(cluster, member):
    site = await member(funded=False)
    subnet = site.subnet()
    subnet["spec"]["chain"]["rpcUrl"] = "http://127.0.0.1:9"
    cluster.apply(subnet)
    told = await cluster.condition(SUBNET, site.namespace, "eu", "ChainSynced", "RpcUnavailable", "False")
    assert "127.0.0.1:9" in told.message
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "RpcUnavailable", "False")


async def test_another_chain_is_refused(cluster, member):
    site = await member(funded=False)
    subnet = site.subnet()
    subnet["spec"]["chain"]["chainId"] = 5
    cluster.apply(subnet)
    await cluster.condition(SUBNET, site.namespace, "eu", "ChainSynced", "WrongChain", "False")


async def test_an_address_without_contract_is_told(cluster, member):
    site = await member(funded=False)
    subnet = site.subnet()
    subnet["spec"]["chain"]["contract"] = "0x" + "12" * 20
    cluster.apply(subnet)
    await cluster.condition(SUBNET, site.namespace, "eu", "ChainSynced", "NoContract", "False")


async def test_an_unknown_consortium_is_told(cluster, member):
    site = await member(funded=False)
    cluster.apply(site.subnet(consortium="nobody-knows"))
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "ConsortiumNotFound", "False")
    assert "nobody-knows" in told.message


async def test_an_unknown_time_zone_is_told_and_mended(cluster, member):
    site = await member()
    hours = {"from": "08:00", "to": "18:00", "timeZone": "Europe/Berln", "maxEgressMbps": 20}
    cluster.apply(site.subnet(exchange={"advertise": "a.example", "windows": [hours]}))
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "InvalidSpec", "False")
    assert "exchange.windows.0.timeZone" in told.message
    assert '"Europe/Berln" is no time zone' in told.message
    mended = {"exchange": {"windows": [{**hours, "timeZone": "Europe/Berlin"}]}}
    cluster.patch(SUBNET, site.namespace, "eu", {"spec": mended})
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")


async def test_a_stake_beyond_the_balance_is_told(cluster, member):
    site = await member()
    cluster.apply(site.subnet(stake="50000"))
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Staked", "InsufficientFunds", "False")
    assert "50000" in told.message
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "InsufficientFunds", "False")


async def test_a_wallet_without_gas_is_told(cluster, member):
    site = await member(funded=False)
    cluster.apply(site.subnet())
    told = await cluster.condition(SUBNET, site.namespace, "eu", "Registered", "InsufficientFunds", "False")
    assert site.address in told.message


async def test_a_raised_stake_is_topped_up(cluster, member):
    site = await member()
    cluster.apply(site.subnet())
    await cluster.condition(SUBNET, site.namespace, "eu", "Ready", "AsExpected", "True")
    cluster.patch(SUBNET, site.namespace, "eu", {"spec": {"stake": "1500"}})

    async def topped_up():
        return (await cluster.get(SUBNET, site.namespace, "eu"))["status"].get("stake") == "1500"

    await cluster.until("stake is 1500", topped_up)
