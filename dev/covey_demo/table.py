"""The demo's last page, from values; nothing here talks to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal

from covey_demo.members import NAMESPACE

_HEADINGS = (
    "member", "AUC alone", "AUC together", "AUC pooled", "bytes sent", "ratio", "reward", "stake", "transactions",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One member's part; reward and stake in whole tokens, ratio as the member's status has it."""

    member: str
    auc_alone: float
    auc_together: float
    auc_pooled: float
    bytes_sent: int
    ratio: str
    reward: Decimal
    stake: Decimal
    transactions: int


def table(rows: Sequence[Row]) -> str:
    """One line a member under a line of headings, in columns."""
    cells = [list(_HEADINGS), *([_cell(getattr(row, field.name)) for field in fields(row)] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEADINGS))]
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
