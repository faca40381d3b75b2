"""`covey simulate` as a person runs it: real processes, contracts, keys and rings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from covey_exchange.manifest import model_digest
from safetensors.numpy import load_file

pytestmark = pytest.mark.chain
ROOT = Path(__file__).parents[3]
TASK = ROOT / "examples/wdbc/task.yaml"


def covey(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from covey_cli.main import cli; cli()", "simulate", *map(str, arguments)]
    path = ":".join(str(ROOT / d) for d in ("crds", "contracts", "operator", "trainer_image", "cli"))
    environment = {**os.environ, "COLUMNS": "200", "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)


def test_three_members_end_with_one_model_and_are_paid(tmp_path: Path) -> None:
    done = covey(TASK, "--members", 3, "--rounds", 4, "--keep", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ the same model at all members and on chain" in done.stdout
    assert "✓ no token was made or lost" in done.stdout
    models = [load_file(path) for path in tmp_path.glob("seed-0/*/output/wdbc/model.safetensors")]
    assert len(models) == 3
    assert len({model_digest(model) for model in models}) == 1
    logs = [path.read_text() for path in tmp_path.glob("seed-0/*/validator.log")]
    assert len(logs) == 3
    assert all("before about 7 epochs an honest minority is paid less" in log for log in logs), (
        "a short task is warned of"
    )


def test_a_wrong_entrypoint_is_named_with_its_remedy(tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(TASK.read_text().replace("wdbc.program:Program", "wdbc.program:Programme"))
    (tmp_path / "make_data.py").symlink_to(TASK.parent / "make_data.py")
    (tmp_path / "wdbc").symlink_to(TASK.parent / "wdbc")
    done = covey(task, "--rounds", 1, "--keep", tmp_path / "kept")
    assert done.returncode == 1
    assert "EntrypointNotFound" in done.stderr
    assert "Programme" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_folder_without_a_members_records_is_refused(tmp_path: Path) -> None:
    (tmp_path / "member-1").mkdir()
    done = covey(TASK, "--data", tmp_path)
    assert done.returncode == 1
    assert "member-2 is missing" in done.stderr


def test_the_report_of_a_site_names_the_settled_digest(tmp_path: Path) -> None:
    done = covey(TASK, "--members", 3, "--rounds", 2, "--keep", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [json.loads(p.read_text()) for p in tmp_path.glob("seed-0/*/validator-termination.json")]
    assert [r["outcome"] for r in reports] == ["Succeeded"] * 3
    assert len({r["modelDigest"] for r in reports}) == 1
