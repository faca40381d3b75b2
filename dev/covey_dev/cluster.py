"""Clusters of one node, each in a sandbox of Linux namespaces: bring up, stop, forget, look inside."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from covey_dev import artifact, bootstrap, cgroups, golang, golden, images, network, node, packages, paths, registry
from covey_dev.controlplane import SERVICE_ADDRESS
from covey_dev.errors import DevError, UnsupportedError
from covey_dev.nodeconfig import DNS_ADDRESS, Node, hosts_directory
from covey_dev.process import Process, run, spawn, until
from covey_dev.progress import step

_RESERVED = ("anvil", "hosts", "kind", "registry")
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,7}[a-z0-9])?")
_LARGEST_INDEX = 9
_OLDEST = "oldest-kubernetes"  # a file in the state of a cluster that runs it
_READY_SECONDS = 180.0


def known() -> list[Node]:
    """Clusters that have state, running or not, by address."""
    found = [
        Node(file.parent.name, int(file.read_text()), oldest=(file.parent / _OLDEST).exists())
        for file in paths.state().glob("*/index")
    ]
    return sorted(found, key=lambda node: node.index)


def named(name: str) -> Node:
    """The cluster of this name.

    Raises:
        DevError: there is none.
    """
    for node_ in known():
        if node_.name == name:
            return node_
    raise DevError(f"there is no cluster {name!r}", f"Start it: `python -m covey_dev cluster up {name}`.")


def process(of: Node) -> Process | None:
    """Process 1 of the cluster's sandbox, if it runs."""
    return Process.load(of.directory / "run/pid")


def up(names: list[str], oldest: Collection[str] = ()) -> list[Node]:
    """Bring clusters up, all at once; returns when the DNS of each answers. One that runs already goes on.

    Args:
        names: of the clusters.
        oldest: those of them that run the oldest Kubernetes that Covey supports; one that exists stays as it is.
    """
    if os.geteuid() != 0:
        raise UnsupportedError("clusters need namespaces, mounts and cgroups", "Run this as root (`sudo -E`).")
    packages.ensure()
    golang.kube()
    nodes = [_allocate(name, name in oldest) for name in dict.fromkeys(names)]
    if any(node_.oldest for node_ in nodes):
        golang.kube_oldest()
    registry.up()
    pause = images.pause_archive()
    _write_hosts()
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(lambda node_: _up(node_, pause), nodes))
    return nodes


def down(of: Node) -> None:
    """End a cluster; its state stays, so that `up` brings the same cluster back."""
    with artifact.locked(of.directory):
        init = process(of)
        if init:
            with step(f"stopping cluster {of.name}"):
                init.stop(grace_seconds=0)
        network.disconnect(_interface(of))
        cgroups.remove(of.name)
        for file in of.directory.glob("run/*"):
            file.unlink()


def wipe(of: Node) -> None:
    """End a cluster and forget everything about it."""
    down(of)
    shutil.rmtree(of.directory)
    _write_hosts()


def kubectl(of: Node, *arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as the administrator of the cluster and return what it prints."""
    return run(*_kubectl(of), *arguments, stdin=stdin)


def enter(of: Node) -> list[str]:
    """The start of a command line that runs the rest of it inside of the sandbox."""
    init = process(of)
    if init is None:
        raise DevError(f"cluster {of.name} does not run", f"Start it: `python -m covey_dev cluster up {of.name}`.")
    path = f"{golang.kube()}:/usr/sbin:/usr/bin:/sbin:/bin"
    variables = [f"PATH={path}", f"KUBECONFIG={of.kubeconfig}", f"CONTAINERD_ADDRESS={of.containerd_socket}"]
    return ["nsenter", "-t", str(init.pid), "-n", "-m", "-p", "-u", "env", *variables, "CONTAINERD_NAMESPACE=k8s.io"]


def remove_shared_directories() -> None:
    """Remove the mount points that sandboxes needed on the host, where they are empty, so ours."""
    for private in node.PRIVATE:
        path = Path(private)
        if path.exists() and path.parts[1:3] == ("var", "lib") and not any(path.iterdir()):
            path.rmdir()


def _allocate(name: str, oldest: bool) -> Node:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise DevError(f"{name!r} cannot name a cluster", "Use up to 9 lowercase letters, digits and hyphens.")
    with artifact.locked(paths.state() / "index"):
        taken = {node_.name: node_ for node_ in known()}
        if name in taken:
            return taken[name]
        free = set(range(1, _LARGEST_INDEX + 1)) - {node_.index for node_ in taken.values()}
        if not free:
            raise DevError("there are 9 clusters already", "Wipe one: `python -m covey_dev cluster wipe NAME`.")
        new = Node(name, min(free), oldest)
        if oldest:
            artifact.write_atomically(new.directory / _OLDEST, "")
        artifact.write_atomically(new.directory / "index", str(new.index))
        return new


def _write_hosts() -> None:
    lines = [f"{network.HOST} host.covey.test", *(f"{node_.address} {node_.name}.covey.test" for node_ in known())]
    artifact.write_atomically(hosts_directory() / "hosts", "\n".join(lines) + "\n")


def _kubectl(of: Node) -> list[str]:
    # kubectl keeps discovery documents by address: a new cluster must not meet those of an older one there.
    program = str(golang.kube() / "kubectl")
    return [program, f"--kubeconfig={of.kubeconfig}", f"--cache-dir={of.directory}/kubectl"]


def _interface(of: Node) -> str:
    return f"covey-{of.name}"


def _up(of: Node, pause: Path) -> None:
    with artifact.locked(of.directory), step(f"cluster {of.name} at {of.address}"):
        if process(of) is None:
            network.disconnect(_interface(of))
            for private in node.PRIVATE:
                Path(private).mkdir(parents=True, exist_ok=True)
            of.write()
            golden.copy_into(of.directory / "containerd/root")
            cgroups.create(of.name)
            _start_sandbox(of)
        _wait_until_ready(of, pause)


def _start_sandbox(of: Node) -> None:
    for file in of.directory.glob("run/*"):
        file.unlink()
    namespaces = ["--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
    log = of.directory / "log/init.log"
    plan = of.directory / "conf/plan.json"
    init: list[str | Path] = ["env", f"PYTHONPATH={paths.DEV}", paths.python(), "-m", "covey_dev.node", plan]
    spawn(["unshare", *namespaces, *init], log)
    remedy = f"Read {log}; unshare needs root."
    until(lambda: process(of) is not None, f"the sandbox of {of.name}", 20, remedy, log, every_seconds=0.02)
    pid = int((of.directory / "run/pid").read_text().split()[0])
    network.connect(_interface(of), of.index, pid)


def _wait_until_ready(of: Node, pause: Path) -> None:
    logs = of.directory / "log"
    remedy = f"Read the logs in {logs}; `python -m covey_dev cluster wipe {of.name}` starts from nothing."

    def wait(what: str, *arguments: str, contains: str = "") -> None:
        def answers() -> bool:
            done = subprocess.run([*_kubectl(of), *arguments], capture_output=True, text=True)
            return done.returncode == 0 and contains in done.stdout

        until(answers, f"{what} of {of.name}", _READY_SECONDS, remedy, logs / "init.log")

    ctr = ["ctr", "--address", str(of.containerd_socket), "--namespace=k8s.io", "images"]
    wait("API server", "get", "--raw=/readyz")
    if images.PAUSE not in run(*ctr, "list", "--quiet").split():
        run(*ctr, "import", pause)
    # The discovery document can be partial at first, and kubectl would keep that.
    for group in ("apps", "networking.k8s.io", "rbac.authorization.k8s.io", "storage.k8s.io"):
        wait(f"API group {group}", "get", "--raw=/apis", contains=f'"{group}"')
    kubectl(of, "apply", "-f", "-", stdin=bootstrap.manifests(of))
    wait("node", "get", "node", of.name)
    kubectl(of, "wait", "--for=condition=Ready", f"node/{of.name}", f"--timeout={_READY_SECONDS:.0f}s")
    wait("service account", "get", "serviceaccount", "default")
    # After a restart the node's and the rollout's status may be old news. An answer of the DNS through its service
    # address cannot be: it needs the API server, kubelet, containerd, CNI, kube-proxy and CoreDNS.
    question = [*enter(of), "timeout", "2", "busybox", "nslookup", "kubernetes.default.svc.cluster.local", DNS_ADDRESS]

    def dns_answers() -> bool:
        return SERVICE_ADDRESS in subprocess.run(question, capture_output=True, text=True).stdout

    until(dns_answers, f"DNS of {of.name}", _READY_SECONDS, remedy, logs / "init.log")


def summary(of: Node) -> dict[str, str]:
    """One row of the status table."""
    version = golang.OLDEST_KUBERNETES_VERSION if of.oldest else golang.KUBERNETES_VERSION
    row = {"name": of.name, "kubernetes": version, "address": of.address, "state": "stopped", "pods": "", "volumes": ""}
    if process(of) is None:
        return row
    pods = json.loads(kubectl(of, "get", "pods", "--all-namespaces", "--output=json"))["items"]
    volumes = json.loads(kubectl(of, "get", "persistentvolumes", "--output=json"))["items"]
    running = sum(pod["status"].get("phase") == "Running" for pod in pods)
    free = sum(volume["status"].get("phase") == "Available" for volume in volumes)
    return row | {"state": "up", "pods": f"{running}/{len(pods)}", "volumes": f"{free}/{len(volumes)} free"}
