"""From nothing to a seat: the commands that `covey init` prints, word for word, on a real API server without Covey."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from covey_cli.main import cli
from covey_dev import golang
from covey_dev.apiserver import ApiServer

pytestmark = pytest.mark.apiserver

REPOSITORY = Path(__file__).parents[3]
OPTIONS = [
    "--consortium=oncology-eu", "--rpc-url=http://chain.example:9545", "--chain-id=31337",
    "--contract=0x5FbDB2315678afecb367f032d93F642f64180aa3", "--advertise=covey.st-mary.example",
    "--registry=registry.example/covey", "--stake=10000", "--dataset", "ward-7", "wdbc-v1", "ward-7",
    "--namespace=oncology",
]  # fmt: skip


def test_the_printed_commands_make_a_seat(tmp_path: Path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kubectl").symlink_to(golang.kube() / "kubectl")
    (tools / "helm").symlink_to(golang.helm())
    with ApiServer() as bare:
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
            "KUBECONFIG": str(bare.kubeconfig),
            "HELM_CACHE_HOME": str(tmp_path),
            "HELM_CONFIG_HOME": str(tmp_path),
        }
        before = CliRunner(env=environment).invoke(cli, ["join", "wdbc"])
        assert before.exit_code == 1
        assert "does not know FederatedTasks: the chart is not installed" in before.output

        folder = tmp_path / "the seat"
        made = CliRunner().invoke(cli, ["init", str(folder), *OPTIONS])
        assert made.exit_code == 0, made.output
        commands = [line.strip() for line in made.output.splitlines() if line.startswith(("  kubectl", "  helm"))]
        waits = [command for command in commands if " wait " in command]  # there is no kubelet and no operator here
        assert (len(commands), len(waits)) == (5, 1)
        for command in commands:
            if command not in waits:
                done = subprocess.run(
                    ["bash", "-c", command],
                    env=environment,
                    cwd=REPOSITORY,
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
                assert done.returncode == 0, f"{command}\n{done.stderr}"
        seat = json.loads(bare.kubectl("get", "subnet", "oncology-eu", "-n", "oncology", "-o", "json"))
        assert seat["spec"]["stake"] == "10000"
        assert seat["spec"]["policy"]["approval"] == "Manual"
        deployment = json.loads(bare.kubectl("get", "deployment", "covey", "-n", "covey-system", "-o", "json"))
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"].startswith("registry.example/covey/operator:")
        after = CliRunner(env=environment).invoke(cli, ["join", "wdbc", "-n", "oncology"])
        assert 'there is no FederatedTask "wdbc" in namespace "oncology"' in after.output
