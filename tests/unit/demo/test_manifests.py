"""What the demo applies is what the API and its operators accept."""

import base64
import json
from pathlib import Path

import pytest
import yaml
from covey_api.subnet import Approval, Role, SubnetSpec
from covey_api.task import TaskSpec
from covey_demo import manifests
from covey_demo.members import AUTOMATIC, CONSORTIUM, MANUAL, MEMBERS, NAMESPACE, PLANNER, Member
from covey_dev import anvil, network

RPC_URL = f"http://{anvil.SERVICE.address}"

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
DIGEST = "sha256:" + "ab" * 32
TASK = """
kind: FederatedTask
metadata: {name: wdbc}
spec:
  subnet: oncology-eu
  bounty: {amount: "10"}
  program: {image: "registry.example/wdbc:1", entrypoint: "wdbc.program:Program"}
  data: {schema: wdbc-v1}
  rounds: {count: 3}
"""


def address_of(member: Member) -> str:
    """Where the member's cluster is when there are no other sandboxes."""
    return network.node_address(MEMBERS.index(member) + 1)


def subnet_of(member: Member) -> SubnetSpec:
    filled = manifests.subnet(member.subnet.read_text(), address_of(member), RPC_URL, CONTRACT)
    return SubnetSpec.model_validate(filled["spec"])


def helm_values(arguments: list[str]) -> dict[str, object]:
    """What `--set-json` says: path of the value -> value."""
    assert arguments[::2] == ["--set-json"] * (len(arguments) // 2)
    return {path: json.loads(value) for path, _, value in (argument.partition("=") for argument in arguments[1::2])}


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_every_member_names_its_own_node_and_the_common_chain(member: Member) -> None:
    spec = subnet_of(member)
    assert spec.exchange.advertise == address_of(member)
    assert (spec.chain.contract, spec.chain.rpc_url) == (CONTRACT, RPC_URL)
    assert spec.chain.chain_id == anvil.CHAIN_ID
    assert spec.consortium == CONSORTIUM


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_in_sandboxes_the_members_files_are_applied_word_for_word(member: Member) -> None:
    written = yaml.safe_load(member.subnet.read_text())
    written["spec"]["chain"]["contract"] = CONTRACT
    assert manifests.subnet(member.subnet.read_text(), address_of(member), RPC_URL, CONTRACT) == written
    policy = yaml.safe_load(member.values.read_text())["networkPolicy"]
    assert helm_values(manifests.network_values(address_of(member), RPC_URL)) == {
        "networkPolicy.apiServer.cidrs": policy["apiServer"]["cidrs"],
        "networkPolicy.chain.cidrs": policy["chain"]["cidrs"],
    }


def test_elsewhere_the_addresses_of_that_place_are_filled_in() -> None:
    filled = manifests.subnet(PLANNER.subnet.read_text(), "172.18.0.3", "http://172.18.0.1:8545", CONTRACT)
    spec = SubnetSpec.model_validate(filled["spec"])
    assert (spec.exchange.advertise, spec.chain.rpc_url) == ("172.18.0.3", "http://172.18.0.1:8545")
    assert "10.66." not in yaml.safe_dump(filled)
    assert helm_values(manifests.network_values("172.18.0.3", "http://172.18.0.1:8545")) == {
        "networkPolicy.apiServer.cidrs": ["172.18.0.3/32"],
        "networkPolicy.chain.cidrs": ["172.18.0.1/32"],
    }


@pytest.mark.parametrize("member", MEMBERS, ids=lambda member: member.name)
def test_what_a_subnet_mounts_is_what_the_demo_makes(member: Member) -> None:
    spec = subnet_of(member)
    assert [entry.claim_name for entry in spec.datasets] == [manifests.DATA_CLAIM]
    assert spec.storage.output_claim == manifests.OUTPUT_CLAIM
    assert spec.chain.wallet_secret.name == manifests.WALLET
    assert spec.chain.wallet_secret.key in manifests.wallet("0x1")["data"]


def test_one_plans_one_joins_by_policy_and_one_asks_a_person() -> None:
    assert Role.PLANNER in subnet_of(PLANNER).roles
    assert Role.PLANNER not in subnet_of(AUTOMATIC).roles + subnet_of(MANUAL).roles
    assert subnet_of(AUTOMATIC).policy.approval is Approval.AUTOMATIC
    assert subnet_of(MANUAL).policy.approval is Approval.MANUAL


def test_a_claim_and_its_volume_know_only_each_other() -> None:
    volume, claim = manifests.volume("ward-records", Path("/somewhere"), "st-mary", writable=False)
    assert volume["spec"]["claimRef"] == {"namespace": NAMESPACE, "name": "ward-records"}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == ""
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadOnlyMany"]


def test_both_namespaces_enforce_the_restricted_level() -> None:
    levels = [n["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for n in manifests.namespaces()]
    assert levels == ["restricted", "restricted"]


def test_a_wallet_secret_holds_the_key() -> None:
    assert base64.b64decode(manifests.wallet("0xabc")["data"]["privateKey"]) == b"0xabc"


def test_a_task_runs_the_image_that_was_built() -> None:
    image = f"registry.local/covey/wdbc@{DIGEST}"
    task = manifests.task(TASK, image)
    assert TaskSpec.model_validate(task["spec"]).program.image == image
    assert task["metadata"] == {"name": "wdbc", "namespace": NAMESPACE}


def test_a_changed_task_keeps_the_rest() -> None:
    task = manifests.task(TASK, "x@y", name="longer", rounds={"count": 50})
    assert (task["metadata"]["name"], task["spec"]["rounds"]["count"]) == ("longer", 50)
    assert task["spec"]["data"] == {"schema": "wdbc-v1"}


def test_images_of_the_chart_are_pinned() -> None:
    arguments = manifests.digest_values(f"registry.local/covey/operator@{DIGEST}", f"registry.local/covey/t@{DIGEST}")
    assert f"image.digest={DIGEST}" in arguments
    assert "trainerImage.repository=registry.local/covey/t" in arguments


def test_an_image_without_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="covey/operator:latest is not pinned"):
        manifests.digest_values("covey/operator:latest", f"covey/trainer@{DIGEST}")
