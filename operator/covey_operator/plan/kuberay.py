"""The Ray cluster of a task as a RayCluster (ray.io/v1), whose pods KubeRay makes and replaces.

The pods are those of the back end Pods, word for word, and are read in the same way. What differs:

- KubeRay deletes a head as soon as it has ended, and makes another at once. Our finalizer on the head keeps what it
  reported until it is read, and holds the next start back while the back-off lasts.
- Workers find the head by a Service whose address is known before any pod and outlives them all, so that the RayCluster
  is complete from its first day (Kueue admits it as a whole) and workers need no DNS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from covey_api.status import ConditionStatus, Reason

from covey_operator.kinds import RAY_CLUSTER, Object, deleting, held, name_of, uid_of
from covey_operator.plan import cluster, health, names
from covey_operator.plan.clock import moment
from covey_operator.plan.cluster import ClusterPlan
from covey_operator.plan.model import Children
from covey_operator.plan.pods import Site, head_pod, worker_pod
from covey_operator.plan.storage import HeadLedger

GCS_PORT, NODE_MANAGER_PORT = 6379, 6380  # as the image starts Ray
LOOK_SECONDS = 15.0  # what RayCluster.status alone tells wakes nobody
TAKEN_UP_SECONDS = 60.0
OWN_COMMAND = "ray.io/overwrite-container-cmd"
GROUP = "workers"


def running(site: Site, children: Children, ledger: HeadLedger, now: datetime) -> ClusterPlan:
    """A cluster is wanted: have KubeRay bring it about."""
    service = gcs_service(site.task, site.namespace)
    address = _cluster_ip(children.services.get(names.gcs(site.task)))
    if address is None:
        text = "The Service in front of Ray gets its address."
        return ClusterPlan(ConditionStatus.FALSE, Reason.PODS_STARTING, text, ledger, apply=(service,))
    wanted = (service, ray_cluster(site, address, suspend=False))
    head = _head(children.pods.values())
    ledger = _counted(ledger, head)
    planned = _follow(site, children, head, ledger, now)
    waiting = planned.status is not ConditionStatus.TRUE and planned.report is None
    return replace(planned, apply=wanted, wake_seconds=_sooner(planned.wake_seconds, LOOK_SECONDS if waiting else None))


def suspended(site: Site, children: Children) -> ClusterPlan:
    """The RayCluster stays and is suspended, so that KubeRay deletes all its pods; we let go of them."""
    address = _cluster_ip(children.services.get(names.gcs(site.task)))
    if address is None or names.ray_cluster(site.task) not in children.ray_clusters:
        return cluster.suspended(site, children)
    return ClusterPlan(
        ConditionStatus.FALSE,
        Reason.SUSPENDED,
        "",
        HeadLedger(),
        apply=(ray_cluster(site, address, suspend=True),),
        delete=tuple(pod for pod in children.pods.values() if deleting(pod) and held(pod, names.HOLD)),
    )


def gcs_service(task: str, namespace: str) -> Object:
    """The Service by whose address workers find the head's Ray."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": names.gcs(task), "namespace": namespace, "labels": names.labels(task)},
        "spec": {
            "type": "ClusterIP",
            "selector": {names.TASK: task, names.TASK_COMPONENT: names.HEAD},
            "publishNotReadyAddresses": True,  # Ray answers before the validator does
            "ports": [{"name": "gcs", "port": GCS_PORT, "targetPort": GCS_PORT, "protocol": "TCP"}],
        },
    }


def ray_cluster(site: Site, address: str, suspend: bool) -> Object:
    """The RayCluster of a task.

    Args:
        site: the task at this member.
        address: of the Service in front of the head's Ray.
        suspend: whether it shall have no pods. Where a queue is named, only Kueue says that it may have some.
    """
    workers = site.replicas
    queue = site.subnet.compute.queue
    labels = names.labels(site.task)
    head, worker = _template(head_pod(site), GCS_PORT), _template(worker_pod(site, 0, "", address), NODE_MANAGER_PORT)
    head["metadata"]["finalizers"] = [names.HOLD]
    # KubeRay's init container asks for the head by this name.
    host = f"{names.ray_cluster(site.task)}-head-svc.{site.namespace}.svc.cluster.local"
    worker["spec"]["hostAliases"] = [{"ip": address, "hostnames": [host]}]
    return {
        "apiVersion": RAY_CLUSTER.api_version,
        "kind": RAY_CLUSTER.kind,
        "metadata": {
            "name": names.ray_cluster(site.task),
            "namespace": site.namespace,
            "labels": labels if queue is None else {**labels, names.QUEUE: queue},
            "annotations": {OWN_COMMAND: "true"},
        },
        "spec": {
            **({"suspend": suspend} if suspend or queue is None else {}),
            "headGroupSpec": {"rayStartParams": {}, "template": head},
            "workerGroupSpecs": [
                {
                    "groupName": GROUP,
                    "replicas": workers,
                    "minReplicas": workers,
                    "maxReplicas": workers,
                    "rayStartParams": {},
                    "template": worker,
                }
            ],
        },
    }


def _template(pod: Object, port: int) -> Object:
    """A pod as KubeRay wants it: without name, queue and the uid of a head; with probes, lest it adds its own."""
    labels = {name: value for name, value in pod["metadata"]["labels"].items() if name != names.QUEUE}
    ray, *others = pod["spec"]["containers"]
    probe = {"tcpSocket": {"port": port}, "periodSeconds": 5, "timeoutSeconds": 5}
    probed = {
        **ray,
        "readinessProbe": {**probe, "failureThreshold": 10},
        "livenessProbe": {**probe, "initialDelaySeconds": 30, "failureThreshold": 120},
    }
    return {"metadata": {"labels": labels}, "spec": {**pod["spec"], "containers": [probed, *others]}}


def _follow(site: Site, children: Children, head: Object | None, ledger: HeadLedger, now: datetime) -> ClusterPlan:
    made = children.ray_clusters.get(names.ray_cluster(site.task))
    if head is None:
        return ClusterPlan(ConditionStatus.FALSE, *_no_head_words(made, now), ledger)
    if deleting(head) and not (health.all_ended(head) or health.ended_badly(head)):
        # It never ran, so it has nothing to say.
        silent = (head,) if health.phase(head) == "Pending" else ()
        text = "The head pod is going; it comes again."
        return ClusterPlan(ConditionStatus.FALSE, Reason.PODS_STARTING, text, ledger, delete=silent)
    if deleting(head) and made is not None and (made.get("spec") or {}).get("suspend"):
        text = "The pods go, because the RayCluster was suspended."  # by Kueue, for one
        return ClusterPlan(ConditionStatus.FALSE, Reason.PODS_STARTING, text, ledger, delete=(head,))
    # Workers stay when the head has ended: KubeRay would only make them anew.
    return cluster.follow_head(site, head, [], ledger, now, lambda: _watch_workers(site, children, head, made, ledger))


def _watch_workers(
    site: Site, children: Children, head: Object, made: Object | None, ledger: HeadLedger
) -> ClusterPlan:
    """KubeRay replaces workers that have ended; those of an earlier head we delete, and it replaces them too."""
    workers = cluster.live(pod for pod in children.pods.values() if not cluster.labelled_head(pod))
    stale = tuple(pod for pod in workers if _created(pod) < _created(head))
    current = [pod for pod in workers if pod not in stale]
    crashed = [health.why_failed(pod) for pod in current if health.all_ended(pod) or health.ended_badly(pod)]
    status, reason, message = cluster.words(site, head, current, crashed, ledger)
    trouble = _trouble(made)
    if status is not ConditionStatus.TRUE and trouble is not None:
        reason, message = trouble
    head_ip = health.pod_ip(head)
    return ClusterPlan(status, reason, message, ledger, delete=stale, head_ip=head_ip, head_uid=uid_of(head))


def _head(pods: Iterable[Object]) -> Object | None:
    """The head that counts; one that we hold back after its end is read as if nobody had asked for its deletion."""
    heads = sorted((pod for pod in pods if cluster.labelled_head(pod)), key=lambda pod: (deleting(pod), _created(pod)))
    return heads[0] if heads else None


def _counted(ledger: HeadLedger, head: Object | None) -> HeadLedger:
    """A head that is not on the ledger yet is another start."""
    if head is None or uid_of(head) == ledger.head_uid:
        return ledger
    return replace(ledger, starts=ledger.starts + 1, started_at=_created(head), head_uid=uid_of(head))


def _no_head_words(made: Object | None, now: datetime) -> tuple[Reason, str]:
    if made is None:
        return Reason.PODS_STARTING, "The RayCluster is being made."
    trouble = _trouble(made)
    if trouble is not None:
        return trouble
    if not made.get("status") and (now - moment(_created(made))).total_seconds() > TAKEN_UP_SECONDS:
        text = (
            f"RayCluster {name_of(made)} exists, and nobody looks after it. See that the operator of KubeRay runs and "
            "watches this namespace."
        )
        return Reason.KUBERAY_MISSING, text
    return Reason.PODS_STARTING, "Waiting for KubeRay to make the head pod."


def _trouble(made: Object | None) -> tuple[Reason, str] | None:
    """What RayCluster.status says that the pods cannot say, because there are none."""
    if made is None:
        return None
    conditions = {one.get("type"): one for one in (made.get("status") or {}).get("conditions") or ()}
    failure = conditions.get("ReplicaFailure", {})
    if failure.get("status") == "True":
        text = f"KubeRay cannot make the pods of RayCluster {name_of(made)} ({failure.get('reason')}): "
        return Reason.PODS_UNSCHEDULABLE, f"{text}{failure.get('message')} Mend what it says; KubeRay tries again."
    if (made.get("spec") or {}).get("suspend"):
        queue = (made["metadata"].get("labels") or {}).get(names.QUEUE)
        who = f'waits in Kueue\'s queue "{queue}" for its quota' if queue else "is suspended and about to go on"
        return Reason.PODS_STARTING, f"RayCluster {name_of(made)} {who}."
    for kind in ("RayClusterSuspending", "RayClusterSuspended"):
        if conditions.get(kind, {}).get("status") == "True":
            return Reason.PODS_STARTING, f"RayCluster {name_of(made)} was suspended and goes on."
    return None


def _cluster_ip(service: Object | None) -> str | None:
    return ((service or {}).get("spec") or {}).get("clusterIP") or None


def _created(obj: Object) -> str:
    return str(obj["metadata"]["creationTimestamp"])


def _sooner(one: float | None, other: float | None) -> float | None:
    return min((seconds for seconds in (one, other) if seconds is not None), default=None)
