"""Flower: superlink and server app in place 0, a supernode in each site, as its documentation deploys them.

Processes as by default (a new client process for every message), without TLS.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from covey_dev import environments, paths

from covey_bench.peers import payload
from covey_bench.peers.trial import SITES, Rounds, Trial

PORT = 8000
CLIENT_APP_PORT = 9094
APP = Path(__file__).parent / "flower_app"
CONFIG = """[superlink]
default = "bench"
[superlink.bench]
address = "{address}"
insecure = true
"""


def run(trial: Trial) -> Rounds:
    programs = environments.ensure(paths.cache() / "peers/flower", "peers-flower")
    app, home = trial.folder / "flower_app", trial.folder / "home"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(payload.__file__), app / "app" / "payload.py")
    home.mkdir()
    host = trial.star.address(0)
    (home / "config.toml").write_text(CONFIG.format(address=f"{host}:{PORT}"))
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "PYTHONPATH": "",
    }
    link = ["--insecure", "--host", "0.0.0.0", "--port", str(PORT), "--disable-runtime-dependency-installation"]
    log = trial.start(0, programs / "flower-superlink", *link, environment=environment)
    trial.wait(lambda: f":{PORT}" in log.read_text(errors="replace"), "Flower's superlink", 180)
    for place in range(1, SITES + 1):
        node = ["--insecure", "--superlink", f"{host}:{PORT}", "--host", "127.0.0.1", "--port", f"{CLIENT_APP_PORT}"]
        trial.start(
            place, programs / "flower-supernode", *node, environment=environment | {"FLWR_HOME": f"{home}{place}"}
        )
    trial.start(
        0, programs / "flwr", "run", app, "bench", "-c", f"rounds={trial.rounds} sites={SITES}", environment=environment
    )
    return trial.measure()
