"""The demo's last page, from values; nothing here talks to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal

from covey_demo.members import NAMESPACE


@dataclass(frozen=True)
class Row:
    """What one member has of the model; ratio as its status has it."""

    member: str
    auc_alone: float
    auc_together: float
    auc_pooled: float
    bytes_sent: int
    ratio: str
    transactions: int


@dataclass(frozen=True)
class Entry:
    """What the task has cost and brought one member, in whole tokens."""

    member: str
    stake: Decimal
    held: Decimal
    refunded: Decimal
    slashed: Decimal
    earned: Decimal
    net: Decimal


def table(rows: Sequence[Row] | Sequence[Entry]) -> str:
    """One line a member under a line of headings, in columns."""
    names = [field.name for field in fields(rows[0])]
    headings = [name.replace("_", " ").replace("auc", "AUC") for name in names]
    cells = [headings, *([_cell(getattr(row, name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in cells)
    )


def look_around(kubeconfigs: dict[str, str], task: str) -> str:
    """Commands by which a person sees more, one block a member."""
    lines = ["Look around:"]
    for member, kubeconfig in kubeconfigs.items():
        kubectl = f"KUBECONFIG={kubeconfig} kubectl -n {NAMESPACE}"
        lines += [f"  # {member}", f"  {kubectl} get subnet,ft,pods", f"  {kubectl} describe ft {task}"]
    return "\n".join([*lines, "  # the end", "  make down"])


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
