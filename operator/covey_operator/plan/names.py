"""Names, labels and annotations of everything that the operator makes; all are functions of the parent's name."""

from __future__ import annotations

from uuid import UUID

NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
TASK = "covey.dev/task"
TASK_COMPONENT = "covey.dev/component"
SUBNET = "covey.dev/subnet"
MIRROR = "covey.dev/mirror"

TASK_ID = "covey.dev/task-id"
HEAD_UID = "covey.dev/head-uid"
HEAD_STARTS = "covey.dev/head-starts"
HEAD_STARTED_AT = "covey.dev/head-started-at"
BACKEND = "covey.dev/backend"
QUEUE = "kueue.x-k8s.io/queue-name"

FINALIZER = "covey.dev/cleanup"
HOLD = "covey.dev/report"  # keeps a head pod of KubeRay until what it reported has been read

HEAD, WORKER = "head", "worker"
EXCHANGE_PORT = 7443
STATUS_PORT = 9464
RESULT_KEY = "result.json"
MAX_TASK_NAME = 47


def labels(task: str, component: str | None = None) -> dict[str, str]:
    """Labels of a task's child."""
    found = {NAME: "covey", MANAGED_BY: "covey-operator", TASK: task}
    return {**found, TASK_COMPONENT: component} if component else found


def head(task: str) -> str:
    """The head pod."""
    return f"{task}-head"


def worker(task: str, index: int) -> str:
    """A worker pod."""
    return f"{task}-worker-{index}"


def exchange(owner: str) -> str:
    """The Service in front of a task's validator, or the Secret with a Subnet's TLS key."""
    return f"{owner}-exchange"


def gcs(task: str) -> str:
    """The Service in front of the head's Ray, whose address outlives the head."""
    return f"{task}-gcs"


def ray_cluster(task: str) -> str:
    """The RayCluster of KubeRay."""
    return task


def session(task: str) -> str:
    """The Secret with the task's session key."""
    return f"{task}-session"


def ray_token(task: str) -> str:
    """The Secret with the token of the task's Ray cluster."""
    return f"{task}-ray"


def config(task: str) -> str:
    """The ConfigMap with the validator's settings."""
    return f"{task}-config"


def result(task: str) -> str:
    """The ConfigMap that records how the task ended here."""
    return f"{task}-result"


def state(task: str) -> str:
    """The volume claim of the validator's state."""
    return f"{task}-state"


def mirror(wanted: str, task_id: bytes, taken: frozenset[str]) -> str:
    """Name of a mirror: the Planner's name if it is free here, otherwise with the start of the task id."""
    if wanted not in taken:
        return wanted
    suffix = task_id.hex()[:6]
    return f"{wanted[: MAX_TASK_NAME - len(suffix) - 1].rstrip('-')}-{suffix}"


def salt(uid: str) -> bytes:
    """The salt of a task's id on chain: the object's uid, so that one object can never be published twice."""
    return UUID(uid).bytes.rjust(32, b"\0")
