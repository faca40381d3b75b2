"""Objects of the API server as values: what cannot be read is told, not raised."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from covey_api.status import Condition, ConditionStatus, Reason
from covey_api.subnet import SubnetSpec, SubnetStatus
from covey_api.task import TaskSpec
from pydantic import BaseModel, ValidationError

from covey_operator.kinds import (
    Key,
    Object,
    annotations_of,
    generation_of,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)
from covey_operator.plan import names
from covey_operator.plan.model import SubnetObject, Task
from covey_operator.plan.status import TRAINING

TASK_ID_BYTES = 32

SpecT = TypeVar("SpecT", bound=BaseModel)


@dataclass(frozen=True)
class Glance:
    """What a Subnet needs of a task."""

    key: Key
    subnet: str | None
    mirror_of: bytes | None
    cut_off: bool
    training: bool


def parse_task(obj: Object) -> Task:
    """A FederatedTask as a value; an unreadable spec is told, not raised."""
    spec, invalid = _read_spec(TaskSpec, obj)
    mirror_of = None
    try:
        mirror_of = _mirror_of(obj)
    except ValueError:
        spec, invalid = None, f"annotation {names.TASK_ID} is not a task id"
    return Task(
        namespace=namespace_of(obj),
        name=name_of(obj),
        uid=uid_of(obj),
        generation=generation_of(obj),
        mirror_of=mirror_of,
        spec=spec,
        invalid=invalid,
        conditions=read_conditions(obj),
    )


def parse_subnet(obj: Object) -> SubnetObject:
    """A Subnet as a value; an unreadable spec is told, not raised."""
    spec, invalid = _read_spec(SubnetSpec, obj)
    return SubnetObject(
        namespace=namespace_of(obj),
        name=name_of(obj),
        uid=uid_of(obj),
        generation=generation_of(obj),
        spec=spec,
        invalid=invalid,
        conditions=read_conditions(obj),
        shown=_read_status(obj),
    )


def glance(task: Object) -> Glance:
    """A FederatedTask as its Subnet sees it."""
    mirror_of = None
    with suppress(ValueError):  # the pass of the task itself tells it
        mirror_of = _mirror_of(task)
    told = (task.get("status") or {}).get("conditions") or ()
    return Glance(
        key=key_of(task),
        subnet=(task.get("spec") or {}).get("subnet"),
        mirror_of=mirror_of,
        cut_off=any(condition.get("reason") == Reason.PEERS_UNREACHABLE for condition in told),
        training=any((one.get("type"), one.get("status")) == (TRAINING, ConditionStatus.TRUE) for one in told),
    )


def read_conditions(obj: Object) -> tuple[Condition, ...]:
    """Conditions as last written, for their transition times; what does not parse is written anew."""
    found = []
    for condition in (obj.get("status") or {}).get("conditions") or ():
        try:
            found.append(Condition.model_validate(condition))
        except ValidationError:
            continue
    return tuple(found)


def _mirror_of(task: Object) -> bytes | None:
    """The id of another member's task that an object stands for; None for one of our own.

    Raises:
        ValueError: the annotation is not the id of a task.
    """
    text = annotations_of(task).get(names.TASK_ID)
    if labels_of(task).get(names.MIRROR) != "true" or text is None:
        return None
    task_id = bytes.fromhex(text.removeprefix("0x"))
    if len(task_id) != TASK_ID_BYTES:
        raise ValueError(text)
    return task_id


def _read_spec(kind: type[SpecT], obj: Object) -> tuple[SpecT | None, str]:
    """The spec, or the first complaint about it with its place."""
    try:
        return kind.model_validate(obj.get("spec") or {}), ""
    except ValidationError as error:
        first = error.errors()[0]
        return None, f"{'.'.join(str(part) for part in first['loc']) or 'spec'}: {first['msg']}"


def _read_status(obj: Object) -> SubnetStatus | None:
    try:
        return SubnetStatus.model_validate(obj.get("status") or {})
    except ValidationError:
        return None  # of another version, or damaged: it is written anew
