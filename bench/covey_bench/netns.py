"""Network namespaces on one bridge: a small network with hosts of its own (root)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


def address(index: int) -> str:
    """Of a host."""
    return f"10.98.0.{index + 1}"


@dataclass(frozen=True)
class Network:
    """Hosts that stand.

    Attributes:
        name: of the bridge; those of namespaces and links begin with it.
        count: number of hosts.
    """

    name: str
    count: int

    def inside(self, index: int) -> list[str]:
        """Prefix of a command that runs on a host."""
        return ["ip", "netns", "exec", f"{self.name}{index}"]


@contextmanager
def network(count: int, name: str = "cvbench") -> Iterator[Network]:
    """Hosts with `address(0)` to `address(count - 1)`; gone afterwards."""
    try:
        _ip("link", "add", name, "type", "bridge")
        _ip("link", "set", name, "up")
        for index in range(count):
            space, outer = f"{name}{index}", f"{name}v{index}"
            _ip("netns", "add", space)
            _ip("link", "add", outer, "master", name, "up", "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("-n", space, "address", "add", f"{address(index)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")
        yield Network(name, count)
    finally:
        for index in range(count):
            _ip("link", "delete", f"{name}v{index}", check=False)  # with the namespace it would go some time later
            _ip("netns", "delete", f"{name}{index}", check=False)
        _ip("link", "delete", name, check=False)


def _ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)
