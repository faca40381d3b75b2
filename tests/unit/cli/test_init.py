"""The files of a new member."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result
from covey_api.subnet import SubnetSpec
from covey_chain import signing
from covey_cli.main import cli

SCHEMA = json.loads((Path(__file__).parents[3] / "charts/covey/values.schema.json").read_text())
OPTIONS = {
    "consortium": "oncology-eu",
    "rpc-url": "https://chain.st-mary.example",
    "chain-id": "31337",
    "contract": "0x5FbDB2315678afecb367f032d93F642f64180aa3",
    "advertise": "covey.st-mary.example:7443",
    "registry": "registry.example:5000/covey",
}


def init(folder: Path, *more: str, **changes: str) -> Result:
    options = {**OPTIONS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return CliRunner().invoke(cli, ["init", str(folder), *(f"--{n}={v}" for n, v in options.items()), *more])


def test_a_new_member_gets_a_key_values_and_a_subnet(tmp_path: Path):
    folder = tmp_path / "seat"
    made = init(folder, "--dataset", "ward-7", "wdbc-v1", "ward-7", "--dataset", "ward-8", "wdbc-v2", "claims")
    assert made.exit_code == 0, made.output
    assert sorted(path.name for path in folder.iterdir()) == ["owner.key", "subnet.yaml", "values.yaml"]
    assert stat.S_IMODE((folder / "owner.key").stat().st_mode) == 0o600
    assert signing.address_of(signing.private_key((folder / "owner.key").read_text())) in made.output
    assert (folder / "owner.key").read_text() not in made.output
    subnet = yaml.safe_load((folder / "subnet.yaml").read_text())
    assert subnet["metadata"] == {"name": "oncology-eu", "namespace": "oncology-eu"}
    spec = SubnetSpec.model_validate(subnet["spec"])
    assert [one.claim_name for one in spec.datasets] == ["ward-7", "claims"]
    values = yaml.safe_load((folder / "values.yaml").read_text())
    jsonschema.validate(values, SCHEMA)
    assert values["watchNamespaces"] == ["oncology-eu"]
    assert values["networkPolicy"]["chain"]["ports"] == [443]


@pytest.mark.parametrize("name", ["owner.key", "values.yaml", "subnet.yaml"])
def test_nothing_is_overwritten(tmp_path: Path, name: str):
    (tmp_path / name).write_text("mine")
    refused = init(tmp_path)
    assert refused.exit_code == 1
    assert f"has {name} already; nothing was written" in refused.output
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"contract": "0x12"}, "spec.chain.contract"),
        ({"advertise": "covey st-mary"}, "spec.exchange.advertise"),
        ({"rpc_url": "chain.example"}, "spec.chain.rpcUrl"),
        ({"rpc_url": "http://chain.example:99999"}, "is no address of a node"),
        ({"consortium": "Oncology", "namespace": "x"}, "spec.consortium"),
        ({"namespace": "On_Cology"}, '"On_Cology" is no name of a namespace'),
        ({"registry": "registry.example/"}, '"registry.example/" is no name of a registry'),
        ({"stake": "much"}, "spec.stake"),
    ],
)
def test_what_would_not_be_accepted_is_named_and_nothing_is_made(tmp_path: Path, changes: dict[str, str], said: str):
    folder = tmp_path / "seat"
    refused = init(folder, **changes)
    assert refused.exit_code == 1
    assert said in refused.output
    assert not folder.exists()
