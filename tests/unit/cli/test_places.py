"""Where `covey join` looks for a cluster, and what it says when there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from covey_chain.anvil import free_port
from covey_cli.cluster import Cluster, Place
from covey_cli.errors import CommandError
from covey_cli.main import cli


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}}
    contexts = [
        {"name": "ward", "context": {"cluster": "c", "user": "u", "namespace": "oncology"}},
        {"name": "lab", "context": {"cluster": "c", "user": "u"}},
    ]
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "ward", "clusters": [cluster], "contexts": contexts,
        "users": [{"name": "u", "user": {}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_namespace_is_the_one_asked_for_then_the_contexts_then_default(kubeconfig: Path):
    file = str(kubeconfig)
    assert Cluster(Place(file)).namespace == "oncology"
    assert Cluster(Place(file, context="lab")).namespace == "default"
    assert Cluster(Place(file, context="lab", namespace="ward-7")).namespace == "ward-7"


def test_several_files_of_the_environment_count_together(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'missing'}:{kubeconfig}")
    assert Cluster(Place()).namespace == "oncology"


def test_every_problem_is_one_sentence(kubeconfig: Path, tmp_path: Path):
    (tmp_path / "broken").write_text("{")
    (tmp_path / "empty").write_text("")
    for options, said in (
        (["--kubeconfig", str(tmp_path / "none")], "there is no kubeconfig at"),
        (["--kubeconfig", str(tmp_path / "broken")], "cannot be used"),
        (["--kubeconfig", str(tmp_path / "empty")], "cannot be used"),
        (["--kubeconfig", str(kubeconfig), "--context", "war"], "has no context war; it has: lab, ward"),
        (["--kubeconfig", str(kubeconfig)], "does not answer"),
        (["--kubeconfig", str(kubeconfig), "--dataset", "Ward 7"], '"Ward 7" is no name of a data set'),
    ):
        done = CliRunner().invoke(cli, ["join", "wdbc", *options])
        assert done.exit_code == 1, done.output
        assert said in done.output
        assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (422, json.dumps({"message": "spec.participation: Invalid"}), "refuses (422): spec.participation: Invalid"),
        (500, "boom", "refuses (500): boom"),
        (503, None, "refuses (503): no reason given"),
        (403, "no", "forbidden"),
    ],
)
def test_a_refusal_of_any_kind_has_words(kubeconfig: Path, status: int, body: str | None, said: str):
    cluster = Cluster(Place(str(kubeconfig)))
    assert said in cluster._refusal("patch", "wdbc", status, body)


def test_kubectl_gets_the_same_options_quoted():
    assert Place("a b", "ward", None).options == " --kubeconfig 'a b' --context ward"


def test_help_loads_nothing_heavy():
    program = "import sys, covey_cli.main; print(*(n for n in ('kubernetes', 'torch', 'web3') if n in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    monkeypatch.delitem(sys.modules, "covey_cli.cluster")
    with pytest.raises(CommandError, match="extra `cli`"):
        import covey_cli.cluster  # noqa: F401
