"""The ABI and bytecode that the package carries are those of the sources beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from covey_chain import abi
from covey_dev import foundry

pytestmark = pytest.mark.chain
CONTRACTS = Path(__file__).parents[2] / "contracts"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the sources alone, away from the tree."""
    root = tmp_path_factory.mktemp("contracts")
    tools = foundry.ensure()
    shutil.copytree(CONTRACTS / "src", root / "src")
    shutil.copy(CONTRACTS / "foundry.toml", root)
    (root / "lib").mkdir()
    (root / "lib/solc").symlink_to(tools / "bin/solc")
    (root / "lib/node_modules").symlink_to(tools / "node_modules")
    done = subprocess.run([tools / "bin/forge", "build"], cwd=root, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "out"


@pytest.mark.parametrize("name", abi.CONTRACTS)
def test_what_is_carried_is_what_is_built(build: Path, name: str) -> None:
    built = json.loads((build / f"{name}.sol" / f"{name}.json").read_text())
    carried = abi.artifact(name)
    assert carried.abi == built["abi"]
    assert carried.bytecode == built["bytecode"]["object"]


@pytest.mark.parametrize("name", abi.CONTRACTS)
def test_contracts_fit_into_a_block_chain(build: Path, name: str) -> None:
    built = json.loads((build / f"{name}.sol" / f"{name}.json").read_text())
    assert len(bytes.fromhex(built["deployedBytecode"]["object"][2:])) <= 24_576, "EIP-170"
    assert len(bytes.fromhex(built["bytecode"]["object"][2:])) <= 49_152, "EIP-3860"
