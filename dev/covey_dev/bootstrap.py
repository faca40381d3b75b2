"""The objects that every new cluster gets: RBAC of its components, DNS, a default storage class with its volumes."""

import string
from typing import Any

import yaml

from covey_dev import golang, paths
from covey_dev.agent import VOLUME_MODE
from covey_dev.images import PAUSE
from covey_dev.nodeconfig import DNS_ADDRESS, Node, hosts_directory

STORAGE_CLASS = "covey-local"
VOLUMES = 12
VOLUME_SIZE = "1Gi"


def manifests(node: Node) -> str:
    """All objects as YAML for `kubectl apply`; the volumes' directories are made."""
    template = string.Template((paths.PACKAGE / "bootstrap.yaml").read_text())
    common = template.substitute(
        pause=PAUSE, binaries=golang.kube(), hosts=hosts_directory(), dns=DNS_ADDRESS
    )  # fmt: skip
    return common + "---\n" + yaml.safe_dump_all(_volume(node, number) for number in range(1, VOLUMES + 1))


def _volume(node: Node, number: int) -> dict[str, Any]:
    path = node.directory / "volumes" / f"{number:02d}"
    if not path.exists():
        path.mkdir(parents=True)
        path.chmod(VOLUME_MODE)
    on_this_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{STORAGE_CLASS}-{number:02d}"},
        "spec": {
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "capacity": {"storage": VOLUME_SIZE},
            "local": {"path": str(path)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_this_node]}]}},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
        },
    }
