"""The state of everything, as tables for people."""

from collections.abc import Sequence

from covey_dev import anvil, cluster, golden, network, registry, teardown

_COLUMNS = ("name", "address", "state", "pods", "volumes")


def clusters() -> str:
    """One line per cluster."""
    rows = [cluster.summary(node) for node in cluster.known()]
    if not rows:
        return "no clusters; start some: python -m covey_dev cluster up NAME…"
    return _table([_COLUMNS, *([row[column] for column in _COLUMNS] for row in rows)])


def everything() -> str:
    """Clusters, then services and images, then what is left of older runs."""
    services = [
        (service.name, service.address, "up" if service.running and service.answers else "stopped")
        for service in (registry.SERVICE, anvil.SERVICE)
    ]
    rest = [
        ("bridge", network.HOST, "up" if network.exists(network.BRIDGE) else "absent"),
        ("golden image store", "", "present" if golden.directory().exists() else "absent"),
    ]
    left = teardown.leftovers()
    lines = [clusters(), "", _table([*services, *rest])]
    return "\n".join([*lines, "", f"left of older runs: {', '.join(left)}"] if left else lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
