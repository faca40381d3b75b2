"""The Ray cluster of a task as bare pods: which to create, which to delete, and how they are.

Head first; workers only when the head has an address, each bound to one life of the head. Pods never restart by
themselves (`restartPolicy: Never`): a Ray worker of yesterday's head is of no use to today's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from covey_api.status import ConditionStatus, Reason

from covey_operator.kinds import Object, annotations_of, deleting, held, labels_of, uid_of
from covey_operator.plan import health, names
from covey_operator.plan.clock import moment, stamp
from covey_operator.plan.model import Children
from covey_operator.plan.pods import Site, head_pod, worker_pod, workers_of
from covey_operator.plan.report import Report, reports, terminations
from covey_operator.plan.storage import HeadLedger

CRASHING_RESTARTS = 6
LINGER_SECONDS, LAST_WORDS_SECONDS = 30.0, 10.0
BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS = 5.0, 300.0


@dataclass(frozen=True)
class ClusterPlan:
    """What to do with the cluster, and what to say about it."""

    status: ConditionStatus
    reason: Reason
    message: str
    ledger: HeadLedger
    apply: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()
    report: Report | None = None
    head_ip: str | None = None
    head_uid: str | None = None
    wake_seconds: float | None = None
    fatal: bool = field(default=False)  # `report` says that starting again cannot help


def backoff_seconds(restarts: int) -> float:
    """How far apart starts must be after this many restarts: 0, 5, 10, 20 … 300 seconds."""
    if restarts <= 0:
        return 0.0
    return min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(restarts - 1, 16))


def remains(children: Children, keep_completed: bool = False) -> tuple[Object, ...]:
    """Everything of a cluster that is not wanted any more, what makes pods before the pods.

    A completed head may stay for its logs (it holds no resources), if nothing else would make it anew.
    """
    pods = (
        pod
        for pod in children.pods.values()
        if held(pod, names.HOLD)
        or not (deleting(pod) or (keep_completed and labelled_head(pod) and health.all_ended(pod)))
    )
    return (*live(children.ray_clusters.values()), *pods)


def suspended(site: Site, children: Children) -> ClusterPlan:
    """Every pod goes; a completed head stays."""
    doomed = remains(children, keep_completed=True)
    return ClusterPlan(ConditionStatus.FALSE, Reason.SUSPENDED, "", HeadLedger(), delete=doomed)


def labelled_head(pod: Object) -> bool:
    """Whether the pod is a head."""
    return labels_of(pod).get(names.TASK_COMPONENT) == names.HEAD


def running(site: Site, children: Children, ledger: HeadLedger, now: datetime) -> ClusterPlan:
    """A cluster is wanted: bring it about.

    Args:
        site: the task at this member.
        children: the task's children that exist, those that are going included.
        ledger: starts of the head so far.
        now: the time of this pass.
    """
    pods = children.pods
    head = pods.get(names.head(site.task))
    workers = [pod for pod in pods.values() if not labelled_head(pod)]
    if head is None:
        return _start_head(site, workers, ledger, now)
    if deleting(head):
        return ClusterPlan(
            ConditionStatus.FALSE,
            Reason.PODS_STARTING,
            "The head pod is going; it comes again.",
            ledger,
            delete=live(workers),
        )
    return follow_head(site, head, workers, ledger, now, lambda: _run_workers(site, head, children, ledger, now))


def follow_head(
    site: Site,
    head: Object,
    workers: list[Object],
    ledger: HeadLedger,
    now: datetime,
    while_running: Callable[[], ClusterPlan],
) -> ClusterPlan:
    """What the head's own state asks for.

    Args:
        site: the task at this member.
        head: the head pod.
        workers: the pods that go when the head has ended.
        ledger: starts of the head so far.
        now: the time of this pass.
        while_running: the plan while the head has not ended.
    """
    if health.ended_badly(head):
        return _head_failed(head, workers, ledger, now)
    lingering = _lingering_seconds(head, now)
    if health.ended_well(head) or lingering == 0:
        return ClusterPlan(
            ConditionStatus.FALSE,
            Reason.ROUNDS_DONE,
            "The head has finished.",
            ledger,
            delete=live(workers),
            report=reports(head).get("validator"),
            head_uid=uid_of(head),
        )
    waits_for = workers_of(head)
    if lingering is None and waits_for not in (None, site.replicas):
        text = f"The number of workers changes from {waits_for} to {site.replicas}: the head starts anew."
        doomed = (head, *live(workers))
        return ClusterPlan(ConditionStatus.FALSE, Reason.PODS_STARTING, text, ledger, delete=doomed)
    planned = while_running()
    if lingering is None:
        return planned
    return replace(planned, wake_seconds=lingering, report=reports(head).get("validator"))


def _lingering_seconds(head: Object, now: datetime) -> float | None:
    """How long Ray may still take to end after the validator has succeeded; None while the validator runs."""
    validator = terminations(head).get("validator")
    if validator is None or validator.get("exitCode") != 0 or not validator.get("finishedAt"):
        return None
    allowed = moment(validator["finishedAt"]) + timedelta(seconds=LINGER_SECONDS)
    return max(0.0, (allowed - now).total_seconds())


def _start_head(site: Site, workers: list[Object], ledger: HeadLedger, now: datetime) -> ClusterPlan:
    wait = _wait_seconds(ledger, now)
    if wait > 0:
        return ClusterPlan(
            ConditionStatus.FALSE,
            crash_reason(ledger),
            f"The head was started {ledger.starts} times; the next start comes soon (exponential back-off).",
            ledger,
            delete=live(workers),
            wake_seconds=wait,
        )
    started = replace(ledger, starts=ledger.starts + 1, started_at=stamp(now))
    return ClusterPlan(
        ConditionStatus.FALSE,
        Reason.PODS_STARTING,
        "The head pod starts.",
        started,
        apply=(head_pod(site),),
        delete=live(workers),
    )


def _head_failed(head: Object, workers: list[Object], ledger: HeadLedger, now: datetime) -> ClusterPlan:
    """A user error ends the task; anything else is tried again, the failed pod being shown until then."""
    found = reports(head)
    fatal = next((told for _, told in sorted(found.items()) if told.outcome == "Failed" and told.user_error), None)
    if fatal is not None:
        doomed = live(workers) if health.all_ended(head) else (head, *live(workers))
        return ClusterPlan(
            ConditionStatus.FALSE,
            fatal.task_reason,
            fatal.message,
            ledger,
            delete=doomed,
            report=fatal,
            fatal=True,
            head_uid=uid_of(head),
        )
    wait = max(_wait_seconds(ledger, now), _last_words_seconds(head, now))
    told = next((report.message for report in found.values() if report.outcome == "Failed" and report.message), "")
    cause = health.why_failed(head) + (f": {told}" if told else "")
    return ClusterPlan(
        ConditionStatus.FALSE,
        crash_reason(ledger),
        f"{cause}. It is started again (restarts so far: {ledger.restarts}).",
        ledger,
        delete=live(workers) if wait > 0 else (head, *live(workers)),
        wake_seconds=wait if wait > 0 else None,
    )


def _last_words_seconds(head: Object, now: datetime) -> float:
    """When one container has failed, the other may still have to say why."""
    if health.all_ended(head):
        return 0.0
    ends = [moment(ended["finishedAt"]) for ended in terminations(head).values() if ended.get("finishedAt")]
    return max(0.0, (max(ends) + timedelta(seconds=LAST_WORDS_SECONDS) - now).total_seconds()) if ends else 0.0


def _run_workers(site: Site, head: Object, children: Children, ledger: HeadLedger, now: datetime) -> ClusterPlan:
    pods = children.pods
    head_ip, head_uid = health.pod_ip(head), uid_of(head)
    wanted = {names.worker(site.task, index): index for index in range(site.replicas)}
    create: list[Object] = []
    delete: list[Object] = []
    crashed: list[str] = []
    wakes: list[float] = []
    if head_ip is not None:
        create = [worker_pod(site, index, head_uid, head_ip) for name, index in wanted.items() if name not in pods]
    for name, pod in pods.items():
        if labelled_head(pod) or deleting(pod):
            continue
        if name not in wanted or head_ip is None or annotations_of(pod).get(names.HEAD_UID) != head_uid:
            delete.append(pod)
        elif health.all_ended(pod) or health.ended_badly(pod):
            crashed.append(health.why_failed(pod))
            wait = _worker_wait_seconds(pod, now)
            if wait > 0:
                wakes.append(wait)
            else:
                delete.append(pod)
    workers = [pods[name] for name in wanted if name in pods and not deleting(pods[name])]
    status, reason, message = words(site, head, workers, crashed, ledger)
    return ClusterPlan(
        status,
        reason,
        message,
        ledger,
        apply=tuple(create),
        delete=tuple(delete),
        head_ip=head_ip,
        head_uid=head_uid,
        wake_seconds=min(wakes) if wakes else None,
    )


def words(
    site: Site, head: Object, workers: list[Object], crashed: list[str], ledger: HeadLedger
) -> tuple[ConditionStatus, Reason, str]:
    """What to say of a cluster whose head runs: status, reason and message of the condition."""
    complaint = health.first_complaint([head, *workers])
    replicas = site.replicas
    ready_workers = sum(1 for worker in workers if health.ready(worker))
    if complaint is not None:
        return ConditionStatus.FALSE, complaint.reason, complaint.message
    if crashed:
        return ConditionStatus.FALSE, crash_reason(ledger), f"{'; '.join(crashed)}. Lost workers are started again."
    if health.ready(head) and ready_workers == replicas:
        return ConditionStatus.TRUE, Reason.AS_EXPECTED, f"Head and {replicas} workers are ready."
    if terminations(head):
        return ConditionStatus.FALSE, Reason.ROUNDS_DONE, "The head is finishing."
    what = f"{ready_workers}/{replicas} workers" if health.ready(head) else "the head pod"
    return ConditionStatus.FALSE, crash_reason(ledger), f"Waiting for {what} to be ready."


def crash_reason(ledger: HeadLedger) -> Reason:
    """Why there is no cluster yet: it starts, or it starts again and again."""
    return Reason.PODS_CRASHING if ledger.restarts >= CRASHING_RESTARTS else Reason.PODS_STARTING


def _wait_seconds(ledger: HeadLedger, now: datetime) -> float:
    if not ledger.started_at:
        return 0.0
    allowed = moment(ledger.started_at) + timedelta(seconds=backoff_seconds(ledger.starts))
    return max(0.0, (allowed - now).total_seconds())


def _worker_wait_seconds(pod: Object, now: datetime) -> float:
    """A worker that failed is shown for a moment, then replaced; its head outlives it."""
    ends = [ended["finishedAt"] for ended in terminations(pod).values() if ended.get("finishedAt")]
    if not ends:
        return 0.0
    allowed = moment(max(ends)) + timedelta(seconds=BACKOFF_BASE_SECONDS)
    return max(0.0, (allowed - now).total_seconds())


def live(objects: Iterable[Object]) -> tuple[Object, ...]:
    """Those that are not going already."""
    return tuple(obj for obj in objects if not deleting(obj))
