"""A Ray node on a machine so busy that its dashboard agent takes long to start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from covey_dev.process import until
from covey_trainer.settings import DASHBOARD_AGENT_PORT, RAY_ENVIRONMENT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(180)]

RAYLET_PATIENCE_SECONDS = 15  # hard-coded in Ray's raylet
SLOW_AGENT = f"""
import sys, time
if any(argument.endswith("dashboard/agent.py") for argument in sys.orig_argv):
    time.sleep({RAYLET_PATIENCE_SECONDS + 5})
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    with TemporaryDirectory(prefix="ray-") as directory:  # names of Ray's sockets have to be short
        yield Path(directory)


def test_a_slow_agent_does_not_end_the_node(tmp_path: Path, scratch: Path):
    (tmp_path / "sitecustomize.py").write_text(SLOW_AGENT)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    log = tmp_path / "ray.log"
    with log.open("wb") as output:
        node = subprocess.Popen(
            [
                *(sys.executable, "-m", "covey_trainer.ray_node", "start", "--head", "--block"),
                *("--node-ip-address=127.0.0.1", "--port=26379", "--num-cpus=0", "--num-gpus=0", "--no-monitor"),
                *("--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=80000000"),
                *("--dashboard-agent-grpc-port=26383", "--metrics-export-port=26385"),
                f"--dashboard-agent-listen-port={DASHBOARD_AGENT_PORT}",
                f"--temp-dir={scratch}",
            ],
            env={**os.environ, **RAY_ENVIRONMENT, "PYTHONPATH": path},
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: "Ray runtime started" in log.read_text() or node.poll() is not None, "Ray", 120, "", log)
        assert node.poll() is None, log.read_text()
        assert "Ray runtime started" in log.read_text()
        agent = scratch / "session_latest/logs/dashboard_agent.log"
        until(agent.exists, "the agent, at last", 60, "", log)
    finally:
        node.terminate()
        node.wait(30)
