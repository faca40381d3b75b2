"""Process 1 of a cluster's sandbox: mounts, network, then every component under a supervisor.

`python -m covey_dev.node PLAN`, started by `unshare` with new network, mount, PID, UTS and IPC namespaces. Standard
library only. When this process dies the kernel ends every other one of the cluster, and its mounts with them.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from covey_dev.process import Process
from covey_dev.supervisor import Supervisor

# Directories of the host that components of every cluster would write to under the same name.
PRIVATE = ("/run", "/var/log", "/var/lib/cni", "/var/lib/kubelet")


def main() -> None:
    """Follow the plan (JSON, see `cluster.plan`); never returns."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    directory = Path(plan["directory"])
    # /proc still shows the host's processes, so that this is our pid out there.
    Process.of(int(os.readlink("/proc/self"))).save(directory / "run/pid")
    socket.sethostname(plan["name"])
    _mount(directory, [Path(shared) for shared in plan["shared"]])
    _join_network(plan["address"], plan["gateway"])
    os.environ["PATH"] = f"{plan['binaries']}:/usr/sbin:/usr/bin:/sbin:/bin"
    supervisor = Supervisor(directory / "log")
    for program in plan["programs"]:
        if program["needs_apiserver"]:
            _wait_for_apiserver(plan["apiserver"], plan["authority"])
        supervisor.start(program["name"], program["command"], program["env"])
    supervisor.watch()


def _mount(directory: Path, shared: list[Path]) -> None:
    """Give the sandbox its own /run, /proc and the like, and hide the state of the other clusters from it."""
    _run("mount", "--make-rprivate", "/")
    for private in PRIVATE:
        _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", private)
    kept = [directory, *shared]
    for number, path in enumerate(kept):
        Path(f"/run/kept-{number}").mkdir()
        _run("mount", "--bind", str(path), f"/run/kept-{number}")
    _run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(directory.parent))
    for number, path in enumerate(kept):
        path.mkdir()
        _run("mount", "--move", f"/run/kept-{number}", str(path))
        Path(f"/run/kept-{number}").rmdir()
    for name in ("lock", "netns"):
        Path("/run", name).mkdir()
    _run("mount", "-t", "proc", "proc", "/proc")
    # The kubelet's mounts for a pod must reach containerd's mount namespaces.
    _run("mount", "--make-rshared", "/")


def _join_network(address: str, gateway: str) -> None:
    _run("ip", "link", "set", "lo", "up")
    while subprocess.run(["ip", "link", "show", "eth0"], capture_output=True).returncode != 0:
        time.sleep(0.05)  # the host moves it in once it knows our pid
    _run("ip", "address", "add", address, "dev", "eth0")
    _run("ip", "link", "set", "eth0", "up")
    _run("ip", "route", "add", "default", "via", gateway)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")  # of this network namespace only


def _wait_for_apiserver(url: str, authority: str) -> None:
    context = ssl.create_default_context(cafile=authority)
    while True:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5, context=context).close()  # noqa: S310 (always https)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def program(
    name: str, command: list[str], env: dict[str, str] | None = None, needs_apiserver: bool = True
) -> dict[str, Any]:
    """One entry of a plan's `programs`; `env` is added to the environment of process 1."""
    return {"name": name, "command": command, "env": env or {}, "needs_apiserver": needs_apiserver}


if __name__ == "__main__":
    main()
