"""NVIDIA FLARE: server in place 0 and a client in each site, from provisioned kits, always with mutual TLS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from covey_dev import environments, paths

from covey_bench.peers import payload
from covey_bench.peers.trial import SITES, Rounds, Trial

PORT = 8002
SERVER, ADMIN = "server1", "admin@covey.example"
JOB = Path(__file__).parent / "flare_job"
QUANTISERS = ("quantizer.ModelQuantizer", "dequantizer.ModelDequantizer")
IMPLEMENTATION = "nvflare.lighter.impl."


def run(trial: Trial, quantiser: str = "") -> Rounds:
    """`quantiser`: FLARE's name of what both directions are quantised with; none if left out."""
    programs = environments.ensure(paths.cache() / "peers/flare", "peers-flare")
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(trial.folder),
        "MALLOC_ARENA_MAX": "4",
        "PYTHONPATH": str(JOB) if quantiser else "",
    }
    kits = _provision(trial.folder, programs, environment)
    hosts = trial.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{trial.star.address(0)} {SERVER}\n")
    # Certificates name the server; the prefix gives the name to it in a mount namespace that ends with the process.
    inner = ["sh", "-c", 'mount --bind "$0" /etc/hosts; exec "$@"', str(hosts)]

    def start(place: int, name: str, module: str, configuration: str) -> Path:
        kit = kits / name
        options = ["secure_train=true", f"uid={name}", "org=covey", "config_folder=config"]
        return trial.start(
            place, programs / "python", "-u", "-m", f"nvflare.private.fed.app.{module}",
            "-m", kit, "-s", configuration, "--set", *options, environment=environment, inner=inner,
        )  # fmt: skip

    server = start(0, SERVER, "server.server_train", "fed_server.json")
    trial.wait(lambda: "Server started" in server.read_text(errors="replace"), "FLARE's server", 180)
    logs = [start(site, f"site-{site}", "client.client_train", "fed_client.json") for site in range(1, SITES + 1)]
    trial.wait(lambda: all("uccessfully registered" in log.read_text(errors="replace") for log in logs), "FLARE", 180)
    job = trial.folder / "job"
    job.mkdir()
    for file in (*JOB.glob("*.py"), Path(payload.__file__)):
        if file.name != "sitecustomize.py":
            shutil.copy(file, job)
    submit = ["submit.py", str(job / "out"), str(kits / ADMIN), str(trial.rounds), str(SITES), quantiser]
    trial.start(0, "env", "-C", job, programs / "python", *submit, environment=environment, inner=inner)
    return trial.measure("Client worker process is terminated")


def _provision(folder: Path, programs: Path, environment: Mapping[str, str]) -> Path:
    """The kits of all participants; returns their folder."""
    project = folder / "project.yml"
    project.write_text(yaml.safe_dump(_project()))
    command = list(map(str, [programs / "nvflare", "provision", "-p", project, "-w", folder / "kits"]))
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nvflare provision failed:\n{done.stdout}{done.stderr}")
    kits = folder / "kits" / "bench" / "prod_00"
    for name in (SERVER, *_sites()):
        _allow(kits / name, folder)
    return kits


def _sites() -> Sequence[str]:
    return [f"site-{site}" for site in range(1, SITES + 1)]


def _project() -> dict[str, object]:
    return {
        "api_version": 3,
        "name": "bench",
        "participants": [
            {"name": SERVER, "type": "server", "org": "covey", "fed_learn_port": PORT},
            *({"name": name, "type": "client", "org": "covey"} for name in _sites()),
            {"name": ADMIN, "type": "admin", "org": "covey", "role": "project_admin"},
        ],
        "builders": [
            {
                "path": f"{IMPLEMENTATION}workspace.WorkspaceBuilder",
                "args": {"template_file": ["master_template.yml"]},
            },
            {
                "path": f"{IMPLEMENTATION}static_file.StaticFileBuilder",
                "args": {"config_folder": "config", "scheme": "http"},
            },
            {"path": f"{IMPLEMENTATION}cert.CertBuilder"},
            {"path": f"{IMPLEMENTATION}signature.SignatureBuilder"},
        ],
    }


def _allow(kit: Path, folder: Path) -> None:
    """Take the default resources into use, with the quantisers on the list of classes that a job may name."""
    for default in (kit / "local").glob("*.default"):
        shutil.copy(default, default.with_suffix(""))
    (kit / "transfer").mkdir(exist_ok=True)
    path = kit / "local" / "resources.json"
    resources = json.loads(path.read_text().replace("/tmp/nvflare", str(folder / "store")))
    resources["class_allow_list"] += [f"nvflare.app_opt.pt.quantization.{name}" for name in QUANTISERS]
    path.write_text(json.dumps(resources, indent=1))
