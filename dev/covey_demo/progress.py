"""How a task stands at a member, in one line; nothing here talks to anybody."""

from __future__ import annotations

from collections.abc import Mapping

from covey_demo.manifests import Object

SUCCEEDED, FAILED, DECLINED = "Succeeded", "Failed", "Declined"
TASK_ID = "covey.dev/task-id"


def task_of(objects: list[Object], task_id: str) -> Object | None:
    """The member's own object of a task, by its id on chain (0x-hex)."""
    for item in objects:
        annotated = (item["metadata"].get("annotations") or {}).get(TASK_ID)
        if task_id in (annotated, status(item).get("taskId")):
            return item
    return None


def status(task: Object | None) -> Object:
    """Its status, empty while there is none."""
    found: Object = (task or {}).get("status") or {}
    return found


def phase(task: Object | None) -> str:
    """Its phase, or nothing."""
    return str(status(task).get("phase") or "")


def condition(task: Object | None, kind: str) -> Object:
    """One of its conditions, empty if there is none of that type."""
    return next((entry for entry in status(task).get("conditions") or [] if entry["type"] == kind), {})


def line(task: Object | None) -> str:
    """What a person wants to know: phase, rounds, members, loss."""
    found = status(task)
    if not found:
        return "not there yet"
    parts = [found.get("phase") or "Pending"]
    labels = {"rounds": "round", "members": "members", "loss": "loss", "reward": "reward"}
    parts += [f"{label} {found[key]}" for key, label in labels.items() if found.get(key)]
    return "  ".join(parts)


def ended(tasks: Mapping[str, Object | None]) -> bool:
    """Whether it has succeeded everywhere."""
    return all(phase(task) == SUCCEEDED for task in tasks.values())


def broken(tasks: Mapping[str, Object | None]) -> list[str]:
    """Members at which it will not succeed any more."""
    return [name for name, task in tasks.items() if phase(task) in (FAILED, DECLINED)]
