"""What a node does beside the kubelet: enforces NetworkPolicies, and makes released volumes available again.

`python -m covey_dev.agent KUBECONFIG POD-RANGE`, inside of a cluster's sandbox. Standard library only.
"""

import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from covey_dev import netpol
from covey_dev.kubewatch import Api, Store

# libcni notes here, before a pod's first container starts, which pod got which address. Status would tell 1 s later.
CNI_RESULTS = Path("/var/lib/cni/results")
_POLL_SECONDS = 0.05
VOLUME_MODE = 0o777


def main() -> None:
    """Run until killed; any error that is not the API server's ends the process, and the supervisor starts it again."""
    api, pod_range = Api(Path(sys.argv[1])), sys.argv[2]
    threading.excepthook = _end
    threading.Thread(target=recycle_volumes, args=(api,), daemon=True).start()
    enforce_policies(api, pod_range)


def enforce_policies(api: Api, pod_range: str) -> None:
    """Replace the nftables table whenever pods, namespaces, policies or addresses change; never returns."""
    changed = threading.Event()
    pods = Store(api, "/api/v1/pods", changed)
    namespaces = Store(api, "/api/v1/namespaces", changed)
    policies = Store(api, "/apis/networking.k8s.io/v1/networkpolicies", changed)
    addresses: dict[str, list[str]] | None = None
    applied = netpol.render(netpol.Snapshot([], {}, [], pod_range))
    _apply(applied)  # pods may run already, and nothing is known of them yet: closed until it is
    for store in (pods, namespaces, policies):
        store.synced.wait()
    while True:
        changed.wait(_POLL_SECONDS)
        current = pod_addresses(CNI_RESULTS)
        if not changed.is_set() and current == addresses:
            continue
        changed.clear()
        addresses = current
        snapshot = netpol.Snapshot(
            pods=[pod for item in pods.objects() for pod in to_pods(item, addresses)],
            namespaces={item["metadata"]["name"]: item["metadata"].get("labels", {}) for item in namespaces.objects()},
            policies=[netpol.Policy(item["metadata"]["namespace"], item["spec"]) for item in policies.objects()],
            pod_range=pod_range,
        )
        rules = netpol.render(snapshot)
        if rules != applied:
            _apply(rules)
            applied = rules


def _apply(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def pod_addresses(results: Path) -> dict[str, list[str]]:
    """IPv4 addresses by pod UID, from libcni's result cache; a pod whose sandbox was made anew has two for a moment."""
    addresses: dict[str, list[str]] = {}
    for file in results.glob("*"):
        try:
            result = json.loads(file.read_text())
        except (FileNotFoundError, ValueError):  # deleted, or being written: the next look sees it
            continue
        arguments = dict(result.get("cniArgs") or [])
        ips = (result.get("result") or {}).get("ips") or []
        if ips and result.get("ifName") == "eth0" and "K8S_POD_UID" in arguments:
            addresses.setdefault(arguments["K8S_POD_UID"], []).append(ips[0]["address"].partition("/")[0])
    return addresses


def to_pods(item: dict[str, Any], addresses: dict[str, list[str]]) -> list[netpol.Pod]:
    """The pod of an API object, once for each address that it has."""
    metadata, spec = item["metadata"], item["spec"]
    ports = tuple(
        netpol.Port(port["name"], port.get("protocol", "TCP"), port["containerPort"])
        for container in spec["containers"]
        for port in container.get("ports") or []
        if "name" in port
    )
    labels = metadata.get("labels", {})
    return [
        netpol.Pod(metadata["namespace"], metadata["name"], address, labels, ports)
        for address in addresses.get(metadata["uid"], [])
    ]


def recycle_volumes(api: Api) -> None:
    """Empty the directory of every released volume, and free the volume for the next claim; never returns."""
    changed = threading.Event()
    volumes = Store(api, "/api/v1/persistentvolumes", changed)
    while True:
        changed.wait()
        changed.clear()
        for volume in volumes.objects():
            if volume.get("status", {}).get("phase") == "Released" and "local" in volume["spec"]:
                empty(Path(volume["spec"]["local"]["path"]))
                name, version = volume["metadata"]["name"], volume["metadata"]["resourceVersion"]
                patch = {"metadata": {"resourceVersion": version}, "spec": {"claimRef": None}}
                try:
                    api.request("PATCH", f"/api/v1/persistentvolumes/{name}", patch)
                except (OSError, http.client.HTTPException) as error:  # it changed meanwhile: that wakes us again
                    print(f"volume {name}: {error!r}", file=sys.stderr, flush=True)


def empty(directory: Path) -> None:
    """Remove what is in a volume's directory, and give the directory back its owner and mode."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    os.chown(directory, 0, 0)
    directory.chmod(VOLUME_MODE)


def _end(arguments: threading.ExceptHookArgs) -> None:
    traceback.print_exception(arguments.exc_value)
    os._exit(1)


if __name__ == "__main__":
    main()
