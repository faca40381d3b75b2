"""The seed of a task: the same at every site, and known to nobody before the task has its id."""

from __future__ import annotations


def task_seed(task_id: bytes) -> int:
    """Seed of the first model, the holdout split and the batch order: the first 64 bits of the task id."""
    return int.from_bytes(task_id[:8], "big")
