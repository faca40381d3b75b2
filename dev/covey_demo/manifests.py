"""What the demo applies to a cluster, as values; nothing here talks to anybody."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from covey_demo.members import NAMESPACE, SYSTEM_NAMESPACE

Object = dict[str, Any]
DATA_CLAIM, OUTPUT_CLAIM, WALLET = "ward-records", "models", "wallet"
_SIZE = "1Gi"


def namespaces() -> list[Object]:
    """The operator's namespace, and that of the tasks, in which only `restricted` pods may run."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE, "labels": restricted}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}},
    ]


def volume(claim: str, directory: Path, node: str, *, writable: bool) -> list[Object]:
    """A directory of the node as a volume, and the claim in the tasks' namespace that alone may bind it.

    Args:
        claim: name of the claim, and with the namespace in front of it of the volume.
        directory: an existing directory of the node.
        node: the node's name.
        writable: ReadWriteOnce for models, ReadOnlyMany for data.
    """
    name = f"{NAMESPACE}-{claim}"
    modes = ["ReadWriteOnce" if writable else "ReadOnlyMany"]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": _SIZE},
                "accessModes": modes,
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(directory)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
                "claimRef": {"namespace": NAMESPACE, "name": claim},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": NAMESPACE},
            "spec": {
                # The empty class keeps the default class from making a volume of its own.
                "storageClassName": "",
                "volumeName": name,
                "accessModes": modes,
                "resources": {"requests": {"storage": _SIZE}},
            },
        },
    ]


def wallet(key: str, name: str = WALLET) -> Object:
    """The Secret with an owner's key, 0x-hex."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "type": "Opaque",
        "data": {"privateKey": base64.b64encode(key.encode()).decode()},
    }


def subnet(text: str, address: str, rpc_url: str, contract: str) -> Object:
    """A member's Subnet with the addresses of this machine, which in sandboxes are those of the file.

    Args:
        text: the YAML file.
        address: of the member's node.
        rpc_url: of the chain.
        contract: the Settlement contract that was deployed.
    """
    found: Object = yaml.safe_load(text)
    found["spec"]["chain"].update(contract=contract, rpcUrl=rpc_url)
    found["spec"]["exchange"]["advertise"] = address
    return found


def task(text: str, image: str, **changes: Any) -> Object:  # noqa: ANN401 (parts of a spec)
    """The Planner's task with the image that was built.

    Args:
        text: the YAML file.
        image: NAME@sha256:…
        **changes: fields of the spec that replace those of the file; `name` replaces the name.
    """
    found: Object = yaml.safe_load(text)
    found["metadata"] = {**found["metadata"], "namespace": NAMESPACE}
    found["metadata"]["name"] = changes.pop("name", found["metadata"]["name"])
    found["spec"]["program"]["image"] = image
    found["spec"].update(changes)
    return found


def digest_values(operator_image: str, trainer_image: str) -> list[str]:
    """Arguments for Helm that pin both images of the chart to what was built.

    Raises:
        ValueError: an image is not pinned by digest.
    """
    arguments = []
    for value, image in (("image", operator_image), ("trainerImage", trainer_image)):
        repository, at, digest = image.partition("@")
        if not at:
            raise ValueError(f"{image} is not pinned by digest")
        arguments += ["--set-string", f"{value}.repository={repository}", "--set-string", f"{value}.digest={digest}"]
    return arguments


def network_values(address: str, rpc_url: str) -> list[str]:
    """Arguments for Helm with the addresses of this machine, which in sandboxes are those of the members' files.

    Args:
        address: of the member's node, and so of its API server.
        rpc_url: of the chain.
    """
    addresses = {"apiServer": address, "chain": urlsplit(rpc_url).hostname}
    values = {f"networkPolicy.{to}.cidrs": json.dumps([f"{found}/32"]) for to, found in addresses.items()}
    return [part for value, cidrs in values.items() for part in ("--set-json", f"{value}={cidrs}")]
