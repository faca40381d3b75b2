"""The bridge that stands for the network between institutions: the host at 10.66.0.1, the clusters at .11 and on."""

from pathlib import Path

from covey_dev.errors import CommandError
from covey_dev.process import run

BRIDGE = "covey0"
HOST = "10.66.0.1"
PREFIX_LENGTH = 24


def node_address(index: int) -> str:
    """The address of the node with this index (1 to 9)."""
    return f"10.66.0.{10 + index}"


def exists(interface: str) -> bool:
    """Whether the host has a network interface of this name."""
    return Path("/sys/class/net", interface).exists()


def ports() -> list[str]:
    """The bridge ports of all clusters, running or not."""
    return sorted(path.name for path in Path("/sys/class/net").glob("covey-*"))


def ensure_bridge() -> None:
    """Make the bridge; nothing else on the host is changed (no forwarding, no firewall rule)."""
    if exists(BRIDGE):
        return
    run("ip", "link", "add", BRIDGE, "type", "bridge", remedy="Run this as root.")
    run("ip", "address", "add", f"{HOST}/{PREFIX_LENGTH}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def remove_bridge() -> None:
    """Remove the bridge."""
    if exists(BRIDGE):
        run("ip", "link", "delete", BRIDGE)


def connect(interface: str, index: int, sandbox_pid: int) -> None:
    """Give the sandbox of node `index` its `eth0`, the other end of which is the bridge port `interface`."""
    # A fixed MAC: with a new one the neighbours keep the old in their ARP tables for up to a minute.
    mac = f"02:00:0a:42:00:{10 + index:02x}"
    run(
        "ip", "link", "add", interface, "type", "veth",
        "peer", "name", "eth0", "address", mac, "netns", str(sandbox_pid),
    )  # fmt: skip
    run("ip", "link", "set", interface, "master", BRIDGE, "up")


def disconnect(interface: str) -> None:
    """Remove a bridge port; the end of its network namespace removes it too, at about the same time."""
    if not exists(interface):
        return
    try:
        run("ip", "link", "delete", interface)
    except CommandError:
        if exists(interface):
            raise
