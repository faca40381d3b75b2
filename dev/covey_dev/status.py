"""The state of everything, as tables for people."""

from collections.abc import Sequence

from covey_dev import choice, golden, network
from covey_dev.place import Place

_COLUMNS = ("name", "kubernetes", "address", "state", "pods", "volumes")


def clusters(place: Place) -> str:
    """One line per cluster."""
    rows = place.rows()
    if not rows:
        return f"no clusters ({place.name}); start some: python -m covey_dev cluster up NAME…"
    return _table([_COLUMNS, *([row.get(column, "") for column in _COLUMNS] for row in rows)])


def everything() -> str:
    """For each place clusters, services and what is left of older runs; then what the host has for sandboxes."""
    pages = []
    for place in choice.in_use():
        services = [(shared.name, shared.address, "up" if shared.up else "stopped") for shared in place.shared()]
        left = place.leftovers()
        pages += [clusters(place), _table(services)]
        pages += [f"left of older runs: {', '.join(left)}"] if left else []
    rest = [
        ("bridge", network.HOST, "up" if network.exists(network.BRIDGE) else "absent"),
        ("golden image store", "", "present" if golden.directory().exists() else "absent"),
    ]
    return "\n\n".join([*pages, _table(rest)])


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
