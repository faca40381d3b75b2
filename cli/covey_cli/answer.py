"""`covey join` and `covey decline`: this member's own answer to a task."""

from __future__ import annotations

from typing import Any

from covey_api.status import Condition, ConditionStatus, Reason
from covey_api.task import Decision, ParticipationSpec
from pydantic import ValidationError

from covey_cli.cluster import Cluster, Place
from covey_cli.errors import CommandError

Object = dict[str, Any]
Conditions = dict[str, Condition]


def answer(place: Place, name: str, decision: Decision, dataset: str | None = None) -> str:
    """Give the answer, and return what was done and what happens next.

    Raises:
        CommandError: no cluster, no task, no longer open, or refused.
    """
    try:
        change = ParticipationSpec(decision=decision, dataset=dataset).wire()
    except ValidationError as error:
        raise CommandError(f'"{dataset}" is no name of a data set: {error.errors()[0]["msg"]}') from error
    cluster = Cluster(place)
    task = cluster.task(name)
    seen = conditions(task)
    closed = why_closed(task, seen)
    if closed:
        raise CommandError(f"{name} is no longer open: {closed}")
    before = task["spec"].get("participation") or {}
    cluster.patch_task(name, {"spec": {"participation": change}})
    known = dataset or before.get("dataset")
    next_ = after_join(name, seen, known) if decision is Decision.JOIN else after_decline(name, seen)
    asked = f"kubectl{place.options} get ft {name}"
    return f"{_done(cluster.namespace, name, change, before)}\nNext: {next_}\nLook: {asked}"


def conditions(task: Object) -> Conditions:
    """Type -> condition; empty before the operator has looked at the task."""
    found = ((task.get("status") or {}).get("conditions")) or []
    return {one["type"]: Condition.model_validate(one) for one in found}


def why_closed(task: Object, seen: Conditions) -> str | None:
    """Why no answer can change anything any more, or None."""
    if task["metadata"].get("deletionTimestamp"):
        return "it is being deleted"
    succeeded = seen.get("Succeeded")
    if succeeded is None or succeeded.status is ConditionStatus.UNKNOWN:
        return None
    if succeeded.status is ConditionStatus.TRUE:
        return "it has succeeded"
    if succeeded.reason in (Reason.STARTED_WITHOUT_US, Reason.DECLINED_BY_PERSON):
        return "it was started without this member"
    return f"it has failed ({succeeded.reason})"


def after_join(name: str, seen: Conditions, dataset: str | None) -> str:
    """What happens after a Join, seen from the conditions before it."""
    accepted = seen.get("Accepted")
    if accepted is None:
        return "the operator has not looked at the task yet; it answers as soon as it does."
    if _left_while_running(seen):
        return "the pods start again, from the state that was kept."
    if accepted.status is ConditionStatus.TRUE:
        return "nothing; this member takes part already."
    if accepted.reason == Reason.DATASET_AMBIGUOUS and dataset is None:
        return f"say which data set: covey join {name} --dataset NAME. {accepted.message}"
    if accepted.reason in (Reason.AWAITING_APPROVAL, Reason.DECLINED_BY_PERSON, Reason.DATASET_AMBIGUOUS):
        return (
            "the operator sends the acceptance to the chain if no rule of the Subnet forbids it; training starts when "
            "enough members have accepted."
        )
    if accepted.status is ConditionStatus.FALSE:
        return f"nothing yet: the Subnet declines the task whatever you answer ({accepted.reason}). {accepted.message}"
    return f"the operator answers when it can ({accepted.reason}). {accepted.message}"


def after_decline(name: str, seen: Conditions) -> str:
    """What happens after a Decline, seen from the conditions before it."""
    accepted, training = seen.get("Accepted"), seen.get("Training")
    if accepted is None or accepted.status is not ConditionStatus.TRUE:
        return "nothing; this member takes no part."
    if training is not None and training.reason == Reason.AWAITING_MEMBERS:
        return "the operator takes the acceptance back from the chain."
    return (
        "this member leaves the running task: its pods stop, its state is kept, and rounds without it are not paid. "
        f"covey join {name} brings it back."
    )


def _left_while_running(seen: Conditions) -> bool:
    training = seen.get("Training")
    return training is not None and training.reason == Reason.DECLINED_BY_PERSON


def _done(namespace: str, name: str, change: Object, before: Object) -> str:
    using = f" with data set {change['dataset']}" if "dataset" in change else ""
    was = before.get("decision")
    if all(before.get(key) == value for key, value in change.items()):
        return f"{name} in namespace {namespace}: {was}{using}, as before."
    return f"{name} in namespace {namespace}: {change['decision']}{using} (before: {was or 'no answer'})."
