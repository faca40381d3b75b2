"""The kinds of Kubernetes objects that the operator handles, with what their paths need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from covey_api import GROUP, VERSION

Object = dict[str, Any]
Key = tuple[str, str, str]  # kind, namespace, name: what the work queue carries


@dataclass(frozen=True)
class Kind:
    """A namespaced resource of the API server."""

    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        """As in an object's `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """URL path of one object, or of all objects of a namespace or of the cluster."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{scope}/{self.plural}" + (f"/{name}" if name else "")


SUBNET = Kind(GROUP, VERSION, "Subnet", "subnets")
TASK = Kind(GROUP, VERSION, "FederatedTask", "federatedtasks")
POD = Kind("", "v1", "Pod", "pods")
SERVICE = Kind("", "v1", "Service", "services")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SECRET = Kind("", "v1", "Secret", "secrets")
CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
EVENT = Kind("", "v1", "Event", "events")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
RAY_CLUSTER = Kind("ray.io", "v1", "RayCluster", "rayclusters")  # of KubeRay; its API may be absent

_BY_NAME = {
    (kind.api_version, kind.kind): kind
    for kind in (SUBNET, TASK, POD, SERVICE, CONFIG_MAP, SECRET, CLAIM, EVENT, NETWORK_POLICY, RAY_CLUSTER)
}


def kind_of(obj: Object) -> Kind:
    """The kind of an object by its `apiVersion` and `kind`."""
    return _BY_NAME[obj["apiVersion"], obj["kind"]]


def key_of(obj: Object) -> Key:
    """The work queue's key of an object."""
    return obj["kind"], namespace_of(obj), name_of(obj)


def name_of(obj: Object) -> str:
    """`metadata.name`."""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Object) -> str:
    """`metadata.namespace`."""
    return str(obj["metadata"]["namespace"])


def uid_of(obj: Object) -> str:
    """`metadata.uid`."""
    return str(obj["metadata"]["uid"])


def annotations_of(obj: Object) -> dict[str, str]:
    """`metadata.annotations`, empty if there are none."""
    return obj["metadata"].get("annotations") or {}


def labels_of(obj: Object) -> dict[str, str]:
    """`metadata.labels`, empty if there are none."""
    return obj["metadata"].get("labels") or {}


def deleting(obj: Object) -> bool:
    """Whether deletion has been asked for."""
    return "deletionTimestamp" in obj["metadata"]


def held(obj: Object, finalizer: str) -> bool:
    """Whether this finalizer keeps the object, however often its deletion is asked for."""
    return finalizer in (obj["metadata"].get("finalizers") or ())


def owner_reference(owner: Object) -> Object:
    """The controller reference that makes `owner` responsible for a child (garbage collection)."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(obj: Object) -> Object | None:
    """The owner reference of the object's controller, if it has one."""
    references: list[Object] = obj["metadata"].get("ownerReferences") or []
    return next((ref for ref in references if ref.get("controller")), None)


def controlled_by(obj: Object, owner_uid: str) -> bool:
    """Whether the object's controller is the owner with this uid."""
    controller = controller_of(obj)
    return controller is not None and controller.get("uid") == owner_uid


def generation_of(obj: Object) -> int:
    """The generation: it grows with the spec, and when deletion begins."""
    return int(obj["metadata"].get("generation", 1))
