"""Network namespaces around a router, with shaped links and counted bytes (root).

Many kernels have no netem, so that delay comes from a program (`covey_bench.delay`) through which the router sends all
traffic; the rate is that of the kernel's token bucket (tbf) at both ends of each link.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

DEVICE = "eth0"
BURST = "128kb"
QUEUE_MILLISECONDS = 100
DELAY_DEVICE = "delay0"
DELAY_TABLE = "100"


def ip(*arguments: str, check: bool = True) -> None:
    """Run iproute2."""
    subprocess.run(["ip", *arguments], check=check, capture_output=not check)


def inside(space: str) -> list[str]:
    """The prefix of a command that runs in a namespace."""
    return ["ip", "netns", "exec", space]


@dataclass(frozen=True)
class Link:
    """What the way from each namespace to the others is like.

    Attributes:
        megabits_per_second: in each direction.
        round_trip_milliseconds: between two namespaces, without queues.
        unlimited: namespaces whose own line takes any rate, as a server's in a data centre does.
    """

    megabits_per_second: int
    round_trip_milliseconds: int
    unlimited: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Star:
    """Namespaces around a router, each with an address of its own network."""

    name: str
    count: int
    router_pid: int

    def address(self, index: int) -> str:
        """Of a namespace."""
        return f"10.97.{index}.2"

    def inside(self, index: int) -> list[str]:
        """The prefix of a command that runs in a namespace."""
        return inside(f"{self.name}{index}")

    def traffic(self) -> list[tuple[int, int]]:
        """Bytes (sent, received) of each namespace on its veth, headers of offloaded packets included."""
        found = {}
        for line in Path(f"/proc/{self.router_pid}/net/dev").read_text().splitlines()[2:]:
            device, counters = line.split(":")
            fields = counters.split()
            found[device.strip()] = int(fields[0]), int(fields[8])  # what the router receives, it has sent
        return [found[f"v{index}"] for index in range(self.count)]


@contextmanager
def routed(name: str, count: int, link: Link | None) -> Iterator[Star]:
    """Namespaces around a router; with bare veth pairs, or shaped links."""
    router, spaces = f"{name}r", [f"{name}{index}" for index in range(count)]
    try:
        ip("netns", "add", router)
        ip("-n", router, "link", "set", "lo", "up")
        for index, space in enumerate(spaces):
            ip("netns", "add", space)
            ip("link", "add", DEVICE, "netns", space, "type", "veth", "peer", "name", f"v{index}", "netns", router)
            ip("-n", router, "address", "add", f"10.97.{index}.1/24", "dev", f"v{index}")
            ip("-n", router, "link", "set", f"v{index}", "up")
            ip("-n", space, "address", "add", f"10.97.{index}.2/24", "dev", DEVICE)
            ip("-n", space, "link", "set", DEVICE, "up")
            ip("-n", space, "link", "set", "lo", "up")
            ip("-n", space, "route", "add", "default", "via", f"10.97.{index}.1")
        _sysctl(router, "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
        with ExitStack() as stack:
            keeper = stack.enter_context(_running([*inside(router), "sleep", "infinity"]))
            if link is not None:
                _limit_rates(router, spaces, link)
                stack.enter_context(_delayed(router, count, link))
            yield Star(name, count, keeper.pid)
    finally:
        for space in [*spaces, router]:
            _kill_all(space)
            ip("netns", "delete", space, check=False)


def _limit_rates(router: str, spaces: list[str], link: Link) -> None:
    for index, space in enumerate(spaces):
        if index in link.unlimited:
            continue
        for namespace, device in ((space, DEVICE), (router, f"v{index}")):
            rate = f"{link.megabits_per_second}mbit"
            bucket = ["tbf", "rate", rate, "burst", BURST, "latency", f"{QUEUE_MILLISECONDS}ms"]
            subprocess.run(["tc", "-n", namespace, "qdisc", "add", "dev", device, "root", *bucket], check=True)


@contextmanager
def _delayed(router: str, count: int, link: Link) -> Iterator[None]:
    one_way = link.round_trip_milliseconds / 2
    command = [*inside(router), sys.executable, "-m", "covey_bench.delay", DELAY_DEVICE, str(one_way)]
    with _running(command, stdout=subprocess.PIPE) as line:
        assert line.stdout is not None
        if not line.stdout.readline():
            raise SystemExit("the delay line did not start: is there /dev/net/tun?")
        ip("-n", router, "link", "set", DELAY_DEVICE, "up", "txqueuelen", "5000")
        _sysctl(router, f"net.ipv4.conf.{DELAY_DEVICE}.rp_filter=0")
        ip("-n", router, "route", "add", "default", "dev", DELAY_DEVICE, "table", DELAY_TABLE)
        for index in range(count):  # what comes from the line itself goes on by the main table
            ip("-n", router, "rule", "add", "iif", f"v{index}", "lookup", DELAY_TABLE)
        yield


@contextmanager
def _running(command: list[str], stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _sysctl(space: str, *settings: str) -> None:
    subprocess.run([*inside(space), "sysctl", "-qw", *settings], check=True)


def _kill_all(space: str) -> None:
    """End what still runs in a namespace that we made."""
    found = subprocess.run(["ip", "netns", "pids", space], check=False, capture_output=True, text=True)
    if found.stdout.split():
        subprocess.run(["kill", "-9", *found.stdout.split()], check=False, capture_output=True)
