"""Processor time of processes and of the machine, as Linux counts it (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


def seconds_of(*pids: int) -> float:
    """Processor time of processes until now, user and system; those that have ended count as nothing."""
    return sum(_ticks(pid) for pid in pids) / TICKS_PER_SECOND


def seconds_of_machine() -> float:
    """For how long the machine's cores have worked since it started, interrupts included; each core counts."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _wait, interrupts, soft_interrupts, _steal = map(int, fields)
    return (user + nice + system + interrupts + soft_interrupts) / TICKS_PER_SECOND


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0
    return int(fields[11]) + int(fields[12])
