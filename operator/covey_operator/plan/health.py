"""What a pod's status means: running, waiting for something that a person must mend, ended well or badly."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from covey_api.status import Reason

from covey_operator.kinds import Object, name_of
from covey_operator.plan.report import terminations

PULL_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True)
class Complaint:
    """Why a pod does not run, in one reason and in words."""

    reason: Reason
    message: str


def phase(pod: Object) -> str:
    """`status.phase`, Pending when not yet set."""
    return str((pod.get("status") or {}).get("phase") or "Pending")


def pod_ip(pod: Object) -> str | None:
    """`status.podIP` while the pod runs."""
    status = pod.get("status") or {}
    return status.get("podIP") or None if phase(pod) == "Running" else None


def ready(pod: Object) -> bool:
    """Whether the pod's Ready condition is True."""
    return _condition(pod, "Ready").get("status") == "True"


def ended_badly(pod: Object) -> bool:
    """Whether the pod, or one of its containers, failed; the pods do not restart containers by themselves."""
    if phase(pod) == "Failed":
        return True
    return any(ended.get("exitCode") != 0 for ended in terminations(pod).values())


def ended_well(pod: Object) -> bool:
    """Whether all containers exited with 0."""
    return phase(pod) == "Succeeded"


def all_ended(pod: Object) -> bool:
    """Whether the pod holds no resources any more."""
    return phase(pod) in ("Succeeded", "Failed")


def why_failed(pod: Object) -> str:
    """In words, from the containers that exited with an error or from the pod itself (evicted, node lost)."""
    causes = [
        f"{name} {_exit_words(ended)}"
        for name, ended in sorted(terminations(pod).items())
        if ended.get("exitCode") != 0
    ]
    status = pod.get("status") or {}
    if not causes:
        causes = [" ".join(part for part in (status.get("reason"), status.get("message")) if part) or "pod failed"]
    return f"{name_of(pod)}: {'; '.join(causes)}"


def complaint(pod: Object) -> Complaint | None:
    """What keeps a pod from running that a person can mend, or None."""
    for image, waiting in _waiting(pod):
        if waiting.get("reason") in PULL_REASONS:
            return Complaint(
                Reason.IMAGE_PULL_FAILED,
                f'{name_of(pod)}: image "{image}" cannot be pulled ({waiting["reason"]}: '
                f"{waiting.get('message') or 'no details'}). Check its name, digest and pull secret, and that this "
                "cluster's nodes reach the registry.",
            )
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Complaint(
            Reason.PODS_UNSCHEDULABLE,
            f"{name_of(pod)}: {scheduled.get('message') or 'no node fits'} Free resources or add nodes; the task's "
            "spec.workers and the Subnet's spec.compute say what is asked for.",
        )
    for _, waiting in _waiting(pod):
        if waiting.get("reason") in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
            return Complaint(Reason.PODS_STARTING, f"{name_of(pod)}: {waiting['reason']}: {waiting.get('message', '')}")
    return None


def first_complaint(pods: Iterable[Object]) -> Complaint | None:
    """The first complaint of several pods."""
    return next((found for pod in pods if (found := complaint(pod)) is not None), None)


def _exit_words(ended: Object) -> str:
    text = f"exited with {ended.get('exitCode')}"
    if ended.get("reason") not in (None, "Error", "Completed"):
        text += f" ({ended['reason']})"
    return text


def _condition(pod: Object, kind: str) -> Object:
    conditions: Iterable[Object] = (pod.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def _waiting(pod: Object) -> list[tuple[str, Object]]:
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    images = {container["name"]: container["image"] for container in pod["spec"]["containers"]}
    return [
        (images.get(container["name"], container.get("image", "")), container["state"]["waiting"])
        for container in containers
        if (container.get("state") or {}).get("waiting")
    ]
