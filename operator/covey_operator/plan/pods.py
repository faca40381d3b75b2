"""The pods of a task: one head (Ray head and validator), and workers that run the task's program.

All pass the `restricted` Pod Security level. Ray's ports are fixed by the image; head and validator are the member's
own image, workers the task's.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from covey_api.subnet import ComputeSpec, Dataset, SubnetSpec
from covey_api.task import TaskSpec

from covey_operator.kinds import Object
from covey_operator.plan import names

USER_ID = 10001
SOCKET_DIR = "/run/covey"
SOCKET = f"{SOCKET_DIR}/validator.sock"
CONFIG_FILE = "/etc/covey/config/validator.json"
SESSION_DIR = "/etc/covey/session"
TLS_DIR = "/etc/covey/tls"
STATE_DIR = "/var/lib/covey"
OUTPUT_DIR = "/output"
DATA_DIR = "/data"
TOKEN_DIR = "/var/run/ray"  # noqa: S105 (a path)
GRACE_SECONDS = 30
WORKERS = "COVEY_WORKERS"  # tells the head how many to wait for


@dataclass(frozen=True)
class PodSettings:
    """What the operator's own settings say about pods."""

    image: str
    pull_policy: str
    pull_secrets: tuple[str, ...]
    ray_head_cpu: str
    ray_head_memory: str
    validator_cpu: str
    validator_memory: str


@dataclass(frozen=True)
class Site:
    """Everything that shapes the pods of one task at this member."""

    task: str
    namespace: str
    subnet_name: str
    spec: TaskSpec
    subnet: SubnetSpec
    dataset: Dataset
    pods: PodSettings

    @property
    def replicas(self) -> int:
        """Worker pods that this member wants."""
        return self.spec.local_workers


def cpu_number(quantity: str) -> str:
    """A CPU quantity as a plain decimal number: "500m" is "0.5"."""
    cores = Decimal(quantity[:-1]) / 1000 if quantity.endswith("m") else Decimal(quantity)
    return format(cores.normalize(), "f")


def workers_of(head: Object) -> int | None:
    """How many workers a head waits for; None if it does not say."""
    variables = [variable for container in head["spec"]["containers"] for variable in container.get("env") or ()]
    return next((int(variable["value"]) for variable in variables if variable["name"] == WORKERS), None)


def head_pod(site: Site) -> Object:
    """The head pod: containers `ray-head` (driver of the round loop) and `validator`."""
    workers = site.spec.workers
    ray = {
        "name": "ray-head",
        "command": ["python", "-m", "covey_trainer.head"],
        "env": [
            {"name": "COVEY_SOCKET", "value": SOCKET},
            {"name": "COVEY_SHARED", "value": SOCKET_DIR},
            {"name": WORKERS, "value": str(site.replicas)},
            {"name": "COVEY_GPUS_PER_WORKER", "value": str(workers.gpus)},
            {"name": "COVEY_CPUS_PER_WORKER", "value": cpu_number(workers.resources.cpu)},
            *_ray_env(),
        ],
        "resources": _at_least(site.pods.ray_head_cpu, site.pods.ray_head_memory),
        "volumeMounts": [
            _mount("run", SOCKET_DIR),
            _mount("tmp-ray", "/tmp"),  # noqa: S108
            _mount("shm", "/dev/shm"),  # noqa: S108
            _mount("ray-token", TOKEN_DIR, read_only=True),
        ],
    }
    validator = {
        "name": "validator",
        "command": ["python", "-m", "covey_validator", "--config", CONFIG_FILE],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108
        "ports": [
            {"name": "exchange", "containerPort": names.EXCHANGE_PORT, "protocol": "TCP"},
            {"name": "status", "containerPort": names.STATUS_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/healthz", "port": "status"},
            "periodSeconds": 3,
            "timeoutSeconds": 2,
            "failureThreshold": 5,
        },
        "resources": _at_least(site.pods.validator_cpu, site.pods.validator_memory),
        "volumeMounts": [
            _mount("run", SOCKET_DIR),
            _mount("tmp-validator", "/tmp"),  # noqa: S108
            _mount("state", STATE_DIR),
            _mount("output", OUTPUT_DIR),
            _mount("config", "/etc/covey/config", read_only=True),
            _mount("session", SESSION_DIR, read_only=True),
            _mount("tls", TLS_DIR, read_only=True),
        ],
    }
    volumes = [
        {"name": "run", "emptyDir": {}},
        {"name": "tmp-ray", "emptyDir": {}},
        {"name": "tmp-validator", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        _secret_volume("ray-token", names.ray_token(site.task)),
        {"name": "state", "persistentVolumeClaim": {"claimName": names.state(site.task)}},
        {"name": "output", "persistentVolumeClaim": {"claimName": site.subnet.storage.output_claim}},
        {"name": "config", "configMap": {"name": names.config(site.task)}},
        _secret_volume("session", names.session(site.task)),
        _secret_volume("tls", names.exchange(site.subnet_name)),
    ]
    containers = [_hardened({"image": site.pods.image, **container}, site) for container in (ray, validator)]
    return _pod(site, names.head(site.task), names.HEAD, containers, volumes, annotations={})


def worker_pod(site: Site, index: int, head_uid: str, head_ip: str) -> Object:
    """A worker pod: the task's program on the member's data, bound to one life of the head."""
    resources = site.spec.workers.resources
    amounts: dict[str, str] = {"cpu": resources.cpu, "memory": resources.memory}
    if site.spec.workers.gpus:
        amounts["nvidia.com/gpu"] = str(site.spec.workers.gpus)
    container = _hardened(
        {
            "name": "ray-worker",
            "image": site.spec.program.image,
            "command": ["python", "-m", "covey_trainer.worker"],
            "env": [
                {"name": "RAY_HEAD_IP", "value": head_ip},
                {"name": "COVEY_GPUS_PER_WORKER", "value": str(site.spec.workers.gpus)},
                {"name": "COVEY_CPUS_PER_WORKER", "value": cpu_number(resources.cpu)},
                *_ray_env(),
            ],
            "resources": {"requests": amounts, "limits": amounts},
            "volumeMounts": [
                _mount("tmp", "/tmp"),  # noqa: S108
                _mount("shm", "/dev/shm"),  # noqa: S108
                _mount("ray-token", TOKEN_DIR, read_only=True),
                {
                    **_mount("data", DATA_DIR, read_only=True),
                    **({"subPath": site.dataset.path} if site.dataset.path else {}),
                },
            ],
        },
        site,
    )
    volumes = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
        _secret_volume("ray-token", names.ray_token(site.task)),
        {"name": "data", "persistentVolumeClaim": {"claimName": site.dataset.claim_name, "readOnly": True}},
    ]
    annotations = {names.HEAD_UID: head_uid}
    pod = _pod(site, names.worker(site.task, index), names.WORKER, [container], volumes, annotations)
    # No name can be asked for (`network.policies`); a resolver that is not there says so at once. Else each lookup of
    # torch.distributed, as of the names of its peers, waits ten seconds for an answer.
    pod["spec"] |= {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}
    if site.subnet.compute.runtime_class_name is not None:
        pod["spec"]["runtimeClassName"] = site.subnet.compute.runtime_class_name
    return pod


def _pod(
    site: Site,
    name: str,
    component: str,
    containers: list[Object],
    volumes: list[Object],
    annotations: dict[str, str],
) -> Object:
    labels = names.labels(site.task, component)
    if site.subnet.compute.queue is not None:
        labels[names.QUEUE] = site.subnet.compute.queue
    metadata: Object = {"name": name, "namespace": site.namespace, "labels": labels}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **_placement(site.subnet.compute),
            **({"imagePullSecrets": [{"name": n} for n in site.pods.pull_secrets]} if site.pods.pull_secrets else {}),
            "containers": containers,
            "volumes": volumes,
        },
    }


def _placement(compute: ComputeSpec) -> Object:
    placed: Object = {}
    if compute.node_selector:
        placed["nodeSelector"] = dict(compute.node_selector)
    if compute.priority_class_name is not None:
        placed["priorityClassName"] = compute.priority_class_name
    if compute.tolerations:
        placed["tolerations"] = [toleration.wire() for toleration in compute.tolerations]
    return placed


def _ray_env() -> list[Object]:
    return [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        # Unset, Ray warns and runs open; set, it refuses to start without the token.
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN_PATH", "value": f"{TOKEN_DIR}/token"},
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
    ]


def _hardened(container: Object, site: Site) -> Object:
    return {
        **container,
        "imagePullPolicy": site.pods.pull_policy,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _at_least(cpu: str, memory: str) -> Object:
    """Requests for both, a limit for memory only: a CPU limit would only slow the round down."""
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def _mount(name: str, path: str, read_only: bool = False) -> Object:
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def _secret_volume(name: str, secret: str) -> Object:
    return {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440}}
