"""The definitions as a real API server understands them."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from covey_api.subnet import SubnetSpec
from covey_api.task import TaskSpec
from covey_dev.apiserver import ApiServer
from covey_dev.errors import CommandError
from minors import BOTH_ENDS

pytestmark = [pytest.mark.apiserver, BOTH_ENDS]

HERE = Path(__file__).parent
ACCEPTED = sorted((HERE / "accepted").glob("*.yaml"))
REFUSED = sorted((HERE / "refused").glob("*.yaml"))
MODELS = {"Subnet": SubnetSpec, "FederatedTask": TaskSpec}


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace of this test's own."""
    name = f"crds-{uuid4().hex[:8]}"
    api_server.kubectl("create", "namespace", name)
    return name


def refusal(api_server: ApiServer, *arguments: str) -> str:
    """Why the API server refuses; fails if it does not."""
    with pytest.raises(CommandError) as refused:
        api_server.kubectl(*arguments)
    return refused.value.log


def stored(api_server: ApiServer, namespace: str, path: Path) -> dict[str, Any]:
    """Apply a sample and read back what is stored."""
    applied: dict[str, Any] = json.loads(
        api_server.kubectl("--namespace", namespace, "apply", "--filename", str(path), "--output=json")
    )
    return applied


@pytest.mark.parametrize("sample", ACCEPTED, ids=lambda path: path.stem)
def test_a_good_object_is_accepted_and_defaults_are_those_of_the_models(api_server, namespace, sample: Path):
    written = yaml.safe_load(sample.read_text())
    model = MODELS[written["kind"]]
    assert model.model_validate(stored(api_server, namespace, sample)["spec"]) == model.model_validate(written["spec"])


@pytest.mark.parametrize("sample", ACCEPTED, ids=lambda path: path.stem)
def test_what_the_models_write_is_accepted_and_loses_nothing(api_server, namespace, sample: Path):
    first = stored(api_server, namespace, sample)
    model = MODELS[first["kind"]].model_validate(first["spec"])
    rewritten = {**first, "metadata": {"name": f"{first['metadata']['name'][:20]}-2"}, "spec": model.wire()}
    create = ("--namespace", namespace, "create", "--filename=-", "--output=json")
    again = json.loads(api_server.kubectl(*create, stdin=json.dumps(rewritten)))
    assert again["spec"] == model.wire(), "no default, no pruning changes what the models say"
    assert MODELS[first["kind"]].model_validate(again["spec"]) == model


@pytest.mark.parametrize(
    ("sample", "path", "value"),
    [
        ("subnet-minimal", ["stake"], "0"),
        ("subnet-minimal", ["roles"], ["Trainer", "Validator"]),
        ("subnet-minimal", ["policy", "approval"], "Manual"),
        ("subnet-minimal", ["policy", "requireDigest"], True),
        ("subnet-minimal", ["exchange", "service", "type"], "NodePort"),
        ("subnet-minimal", ["chain", "walletSecret", "key"], "privateKey"),
        ("task-minimal", ["compression", "density"], "1/64"),
        ("task-minimal", ["members"], {"min": 2, "max": 16, "acceptWithin": "24h"}),
        ("task-minimal", ["workers", "resources"], {"cpu": "1", "memory": "4Gi"}),
        ("task-minimal", ["suspend"], False),
    ],
)
def test_defaults_are_stored(api_server, namespace, sample: str, path: list[str], value: object):
    found = stored(api_server, namespace, HERE / "accepted" / f"{sample}.yaml")["spec"]
    for key in path:
        found = found[key]
    assert found == value


def test_free_form_configuration_is_kept_as_written(api_server, namespace):
    sample = HERE / "accepted" / "task-full.yaml"
    config = stored(api_server, namespace, sample)["spec"]["program"]["config"]
    assert config == yaml.safe_load(sample.read_text())["spec"]["program"]["config"]


@pytest.mark.parametrize("sample", REFUSED, ids=lambda path: path.stem)
def test_a_bad_object_is_refused_with_a_message_that_helps(api_server, namespace, sample: Path):
    expected = sample.read_text().splitlines()[0].removeprefix("# expect: ")
    assert expected in refusal(api_server, "--namespace", namespace, "apply", "--filename", str(sample))


TERMS = "is immutable: the terms of a task are on chain; apply a new task instead"


@pytest.mark.parametrize(
    ("sample", "patch", "message"),
    [
        ("subnet-full", {"consortium": "cardiology-eu"}, "consortium is immutable"),
        ("task-full", {"subnet": "cardiology-eu"}, f"subnet {TERMS}"),
        ("task-full", {"bounty": {"amount": "1"}}, f"bounty {TERMS}"),
        ("task-full", {"program": {"image": "registry.example/other:1"}}, f"program {TERMS}"),
        ("task-full", {"program": {"config": {"schedule": {"warmup": 11}}}}, f"program {TERMS}"),
        ("task-full", {"program": {"config": {"added": True}}}, f"program {TERMS}"),
        ("task-full", {"data": {"schema": "wdbc-v2"}}, f"data {TERMS}"),
        ("task-full", {"members": {"min": 2, "max": 4}, "rounds": {"minUpdates": 2}}, f"members {TERMS}"),
        ("task-full", {"rounds": {"count": 1}}, f"rounds {TERMS}"),
        ("task-full", {"workers": {"gpus": 0}}, f"workers {TERMS}"),
        ("task-full", {"compression": {"density": "1/2"}}, f"compression {TERMS}"),
        ("task-full", {"aggregation": {"clip": "MedianNorm"}}, f"aggregation {TERMS}"),
        ("task-full", {"validation": {"margin": "0.5"}}, f"validation {TERMS}"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_what_is_on_chain_cannot_be_changed(api_server, namespace, sample: str, patch: dict[str, Any], message: str):
    kind = stored(api_server, namespace, HERE / "accepted" / f"{sample}.yaml")["kind"]
    change = ["patch", kind, "full", "--type=merge", f"--patch={json.dumps({'spec': patch})}"]
    assert message in refusal(api_server, "--namespace", namespace, *change)


@pytest.mark.parametrize(
    ("sample", "patch"),
    [
        ("task-full", {"suspend": False}),
        ("task-full", {"participation": {"decision": "Decline"}}),
        ("subnet-full", {"stake": "20000"}),
        ("subnet-full", {"policy": {"approval": "Manual"}}),
        ("subnet-full", {"chain": {"rpcUrl": "http://other.example"}}),
        ("subnet-full", {"datasets": []}),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_what_is_local_can_be_changed(api_server, namespace, sample: str, patch: dict[str, Any]):
    before = stored(api_server, namespace, HERE / "accepted" / f"{sample}.yaml")
    change = ["patch", before["kind"], "full", "--type=merge", f"--patch={json.dumps({'spec': patch})}"]
    after = json.loads(api_server.kubectl("--namespace", namespace, *change, "--output=json"))
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1


STATUS = {
    "FederatedTask": {
        "phase": "Training",
        "rounds": "7/20",
        "members": "3/3",
        "loss": "0.0812",
        "metric": "auc=0.99",
        "compressionRatio": "103x",
        "eta": "4m",
        "reward": "66666",
    },
    "Subnet": {
        "address": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        "stake": "10000",
        "earned": "66666",
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "AsExpected", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ],
    },
}


def table(text: str) -> dict[str, str]:
    """Header -> value of the one row that kubectl prints; columns are parted by two spaces or more."""
    header, row = (re.split(r"\s{2,}", line.strip()) for line in text.strip().splitlines())
    return dict(zip(header, row, strict=True))


def with_status(api_server: ApiServer, namespace: str, sample: str) -> None:
    kind = stored(api_server, namespace, HERE / "accepted" / f"{sample}.yaml")["kind"]
    status = json.dumps({"status": STATUS[kind]})
    api_server.kubectl(
        "--namespace", namespace, "patch", kind, "full", "--subresource=status", "--type=merge", f"--patch={status}"
    )


def test_the_table_of_tasks(api_server, namespace):
    with_status(api_server, namespace, "task-full")
    shown = table(api_server.kubectl("--namespace", namespace, "get", "ft"))
    assert list(shown) == ["NAME", "PHASE", "ROUND", "MEMBERS", "LOSS", "METRIC", "RATIO", "ETA", "REWARD", "AGE"]
    assert list(shown.values())[:-1] == ["full", "Training", "7/20", "3/3", "0.0812", "auc=0.99", "103x", "4m", "66666"]


def test_the_table_of_subnets(api_server, namespace):
    with_status(api_server, namespace, "subnet-full")
    shown = table(api_server.kubectl("--namespace", namespace, "get", "sn", "--output=wide"))
    address = STATUS["Subnet"]["address"]
    assert list(shown) == ["NAME", "READY", "CONSORTIUM", "ADDRESS", "STAKE", "EARNED", "AGE"]
    assert list(shown.values())[:-1] == ["full", "True", "oncology-eu", address, "10000", "66666"]


def test_people_can_wait_for_a_condition(api_server, namespace):
    with_status(api_server, namespace, "subnet-full")
    waited = api_server.kubectl(
        "--namespace", namespace, "wait", "--for=condition=Ready", "subnet/full", "--timeout=10s"
    )
    assert "condition met" in waited


def test_status_is_written_by_its_own_subresource_only(api_server, namespace):
    stored(api_server, namespace, HERE / "accepted" / "task-full.yaml")
    patch = ["patch", "ft", "full", "--type=merge", '--patch={"status": {"phase": "Succeeded"}}', "--output=json"]
    assert "status" not in json.loads(api_server.kubectl("--namespace", namespace, *patch))


def test_a_status_out_of_shape_is_refused(api_server, namespace):
    stored(api_server, namespace, HERE / "accepted" / "task-full.yaml")
    patch = ["patch", "ft", "full", "--subresource=status", "--type=merge", '--patch={"status": {"phase": "Dancing"}}']
    assert "phase: Unsupported value" in refusal(api_server, "--namespace", namespace, *patch)


def test_the_category_lists_everything(api_server, namespace):
    for sample in ("subnet-full", "task-full"):
        stored(api_server, namespace, HERE / "accepted" / f"{sample}.yaml")
    listed = api_server.kubectl("--namespace", namespace, "get", "covey", "--output=name").split()
    assert sorted(listed) == ["federatedtask.covey.dev/full", "subnet.covey.dev/full"]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("subnet", "A member's seat in one consortium"),
        ("subnet.spec.exchange.maxEgressMbps", "Upper limit of outgoing exchange traffic, in Mbit/s."),
        ("ft.spec.compression.density", "Share of values that is sent, for example 1/64; codec None sends all."),
        ("ft.status.conditions.reason", "docs/reference/reasons.md"),
    ],
)
def test_kubectl_explains_fields(api_server, field: str, text: str):
    assert text in " ".join(api_server.kubectl("explain", field).split())
