"""What the processes take from their environment, and the command lines that they make of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from covey_trainer import head, worker
from covey_trainer.errors import HeadMissing
from covey_trainer.settings import HeadSettings, RayAuth, SettingsError, WorkerSettings
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("COVEY_", "RAY_")) or name == "POD_IP":
            monkeypatch.delenv(name)


def test_ray_does_not_start_without_token_authentication() -> None:
    with pytest.raises(ValidationError, match="mode"):
        RayAuth()


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_an_empty_or_missing_token_file_is_refused(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    if content is not None:
        (tmp_path / "token").write_text(content)
    with pytest.raises(SettingsError, match="RAY_AUTH_TOKEN_PATH"):
        RayAuth().check()


def test_a_token_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("0123456789abcdef\n")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    RayAuth().check()


@pytest.mark.parametrize("module", ["head", "worker"])
def test_a_process_names_the_variables_that_it_lacks(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"covey_trainer.{module}"],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 1
    assert "POD_IP" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_head_offers_no_cpu_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "10.0.0.1")
    monkeypatch.setenv("COVEY_WORKERS", "2")
    settings = HeadSettings()
    command = head.command(settings)
    assert {"--num-cpus=0", "--num-gpus=0", "--node-ip-address=10.0.0.1", "--port=6379"} <= set(command)
    assert settings.termination_log == Path("/dev/termination-log")


@pytest.mark.parametrize(("cpus", "ray_cpus"), [("0.5", 1), ("1", 1), ("3.9", 3)])
def test_ray_counts_whole_cpus(cpus: str, ray_cpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "10.0.0.2")
    monkeypatch.setenv("RAY_HEAD_IP", "10.0.0.1")
    monkeypatch.setenv("COVEY_CPUS_PER_WORKER", cpus)
    command = worker.command(WorkerSettings())
    assert f"--num-cpus={ray_cpus}" in command
    assert "--address=10.0.0.1:6379" in command


def test_a_worker_gives_up_on_a_head_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(worker, "GCS_PORT", unused.getsockname()[1])
    settings = WorkerSettings.model_validate(
        {"RAY_HEAD_IP": "127.0.0.1", "POD_IP": "127.0.0.1", "head_timeout_seconds": 0.1}
    )
    with pytest.raises(HeadMissing, match=r"127\.0\.0\.1"):
        worker.wait_for_head(settings)


def test_a_worker_goes_on_when_the_head_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setattr(worker, "GCS_PORT", listening.getsockname()[1])
        worker.wait_for_head(WorkerSettings.model_validate({"RAY_HEAD_IP": "127.0.0.1", "POD_IP": "127.0.0.1"}))


def test_the_head_does_without_torch() -> None:
    code = "import sys, covey_trainer.head; sys.exit('torch' in sys.modules)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    assert subprocess.run([sys.executable, "-c", code], timeout=120, env=environment).returncode == 0
