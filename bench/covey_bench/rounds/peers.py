"""Flower and FLARE as their makers ship them, in virtual environments of their own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from covey_bench.rounds.outcome import PARAMETERS_HIDDEN, Outcome, Watch, marks
from covey_bench.rounds.star import Place

ROOT = Path(__file__).parents[3]
APPS = ROOT / "bench/peers"
LIMIT_SECONDS = 600.0
SETTLE_SECONDS = 6.0
HIDDEN = {"BENCH_HIDDEN": str(PARAMETERS_HIDDEN)}
FLARE_FILTERS = tuple(
    f"nvflare.app_opt.pt.quantization.{name}" for name in ("quantizer.ModelQuantizer", "dequantizer.ModelDequantizer")
)
FLARE_PROJECT = """api_version: 3
name: rounds
participants:
  - {name: server1, type: server, org: covey, fed_learn_port: 8002}
%s
  - {name: admin@covey.dev, type: admin, org: covey, role: project_admin}
builders:
  - {path: nvflare.lighter.impl.workspace.WorkspaceBuilder, args: {template_file: [master_template.yml]}}
  - {path: nvflare.lighter.impl.static_file.StaticFileBuilder, args: {config_folder: config, scheme: http}}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
"""


def environment(name: str) -> Path:
    """The bin folder of a peer's virtual environment; made from its pinned, hashed requirements if it is absent."""
    requirements = ROOT / "requirements/peers" / f"{name}.txt"
    tag = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "covey/peers" / f"{name}-{tag}"
    if not (folder / ".complete").exists():
        print(f"installing {name} (some minutes, once)", flush=True)
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run([uv, "venv", "-q", "--clear", "-p", "3.11", folder], check=True)
        # Without bytecode every process that Flower starts would compile torch anew.
        options = ["--require-hashes", "--compile-bytecode", "-r", requirements]
        subprocess.run([uv, "pip", "install", "-q", "-p", folder / "bin/python", *options], check=True)
        (folder / ".complete").touch()
    return folder / "bin"


def _logs(server: Place, sites: Sequence[Place]) -> list[Path]:
    return [place.directory / "log" for place in (server, *sites)]


def flower(server: Place, sites: Sequence[Place], rounds: int) -> Outcome:
    """SuperLink, SuperNodes and `flwr run`, without TLS, as its quick start has them."""
    bin_ = environment("flwr")
    app, path = server.directory / "app", server.directory / "marks"
    shutil.copytree(APPS / "flower", app)
    shutil.copy(APPS / "mlp.py", app / "app/mlp.py")
    home = server.directory / "home"
    home.mkdir()
    superlink = f'[superlink]\ndefault = "rounds"\n[superlink.rounds]\naddress = "{server.address}:8000"\n'
    (home / "config.toml").write_text(superlink + "insecure = true\n")
    common = {"PATH": f"{bin_}:{os.environ['PATH']}", "FLWR_TELEMETRY_ENABLED": "0", "BENCH_MARKS": str(path), **HIDDEN}
    server.spawn(
        [bin_ / "flower-superlink", "--insecure", "--host", "0.0.0.0", "--port", "8000",
         "--disable-runtime-dependency-installation"],
        {**common, "FLWR_HOME": str(home)},
    )  # fmt: skip
    time.sleep(SETTLE_SECONDS)
    for site in sites:
        site.spawn(
            [bin_ / "flower-supernode", "--insecure", "--superlink", f"{server.address}:8000", "--host", "127.0.0.1",
             "--port", "9094", "--node-config", f"partition-id={site.index - 1}"],
            {**common, "FLWR_HOME": str(site.directory / "home")},
        )  # fmt: skip
    time.sleep(SETTLE_SECONDS)
    run = [bin_ / "flwr", "run", app, "rounds", "-c", f"rounds={rounds} sites={len(sites)}", "--stream"]
    server.spawn(run, {**common, "FLWR_HOME": str(home)})
    watch = Watch(sites)
    watch.until(lambda: bool(marks(path, "done")), LIMIT_SECONDS, _logs(server, sites))
    return watch.outcome(marks(path, "begin")[1:])


def flare(server: Place, sites: Sequence[Place], rounds: int, quantiser: str = "") -> Outcome:
    """Server and clients from provisioned kits, mutual TLS, stock FedAvg recipe."""
    bin_, root = environment("flare"), server.directory
    common = {"HOME": str(root / "home"), "PATH": f"{bin_}:{os.environ['PATH']}", "MALLOC_ARENA_MAX": "4", **HIDDEN}
    (root / "home").mkdir()
    names = [f"site-{site.index}" for site in sites]
    clients = "\n".join(f"  - {{name: {name}, type: client, org: covey}}" for name in names)
    (root / "project.yml").write_text(FLARE_PROJECT % clients)
    subprocess.run(
        [bin_ / "nvflare", "provision", "-p", root / "project.yml", "-w", root / "workspace"],
        check=True, cwd=root, env={**os.environ, **common}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    kits = root / "workspace/rounds/prod_00"
    hosts = root / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{server.address} server1\n")
    if quantiser:
        (root / "without_cuda").mkdir()
        shutil.copy(APPS / "flare/without_cuda.py", root / "without_cuda/sitecustomize.py")
        common["PYTHONPATH"] = str(root / "without_cuda")
    with_hosts = ["unshare", "-m", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "x"]
    parts = [(server, "server1", "server.server_train", "fed_server.json")]
    parts += [(site, name, "client.client_train", "fed_client.json") for site, name in zip(sites, names, strict=True)]
    for place, name, module, config in parts:
        _prepare(kits / name, root)
        place.spawn(
            [*with_hosts, bin_ / "python", "-u", "-m", f"nvflare.private.fed.app.{module}", "-m", kits / name,
             "-s", config, "--set", "secure_train=true", f"uid={name}", "org=covey", "config_folder=config"],
            common, kits / name,
        )  # fmt: skip
        time.sleep(SETTLE_SECONDS if place is server else 0)
    watch, logs = Watch(sites), _logs(server, sites)
    watch.until(lambda: all("successfully registered" in log.read_text().lower() for log in logs[1:]), 90, logs)
    job = root / "job"
    job.mkdir()
    for file in (APPS / "flare/client.py", APPS / "flare/submit.py", APPS / "mlp.py"):
        shutil.copy(file, job)
    admin = kits / "admin@covey.dev"
    command = [bin_ / "python", job / "submit.py", job / "out", admin, rounds, len(sites), quantiser]
    server.spawn([*with_hosts, *command], common, job)
    watch.until(lambda: re.search(r"(?m)^job \S", logs[0].read_text()) is not None, 120, logs)
    found = re.search(r"(?m)^job (\S+)", logs[0].read_text())
    assert found is not None
    said = kits / "server1" / found[1] / "log.txt"
    watch.until(lambda: said.exists() and "Finished FedAvg" in said.read_text(), LIMIT_SECONDS, [*logs, said])
    return watch.outcome(_flare_times(said.read_text())[1:])


def _prepare(kit: Path, root: Path) -> None:
    """Local resources as shipped, in folders of this run; the quantiser is allowed, which FLARE asks of each site."""
    for path in (kit / "local").glob("*.default"):
        shutil.copy(path, path.with_suffix(""))
    path = kit / "local/resources.json"
    resources = json.loads(path.read_text().replace("/tmp/nvflare", f"{root}/store"))
    resources["class_allow_list"] += FLARE_FILTERS
    path.write_text(json.dumps(resources, indent=1))
    (kit / "transfer").mkdir(exist_ok=True)


def _flare_times(text: str) -> list[float]:
    """When rounds began, and when the last one ended, from the job's log (UTC)."""
    entry = r"(?m)^(\S+ \S+) - \S+ - INFO - [^\n]*\n[-=]*\n? *"
    stamps = re.findall(entry + r"Round \d+ started", text) + re.findall(entry + r"Finished FedAvg", text)
    return [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC).timestamp() for stamp in stamps]
