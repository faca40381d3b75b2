"""Figures with their goals: a table for people, one JSON file for programs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

OUT = Path(__file__).parents[1] / "out"


@dataclass(frozen=True)
class Figure:
    """One measured number; a figure without a goal is there to compare with.

    Attributes:
        name: stable, for programs.
        value: as measured.
        unit: of value and goal.
        goal: the bound that was promised, or None.
        better: which side of the goal is met.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


def write(name: str, figures: list[Figure], out: Path = OUT, details: Mapping[str, object] | None = None) -> Path:
    """Write bench/out/NAME.json; `details` are what stands behind the figures, for those who want to look closer."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "figures": [{**asdict(figure), "met": figure.met} for figure in figures],
        "host": host(),
        "commit": commit(),
        **({} if details is None else {"details": details}),
    }
    path = out / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def show(title: str, figures: list[Figure]) -> None:
    """Print the table."""
    table = Table("figure", "value", "unit", "goal", "met", title=title)
    for figure in figures:
        sign = "≥" if figure.better == "higher" else "≤"
        met = {None: "", True: "yes", False: "[bold red]no"}[figure.met]
        goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
        table.add_row(figure.name, f"{figure.value:,.4g}", figure.unit, goal, met)
    Console(width=120).print(table)


def host() -> dict[str, object]:
    """What the numbers were measured on; nothing that names the machine."""
    model = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "unknown")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
        "nice": os.nice(0),
    }


def commit() -> str:
    """The commit that was measured, with a + if files have changed since."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return described.stdout.strip() or "unknown"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
