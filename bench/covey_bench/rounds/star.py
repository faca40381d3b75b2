"""A server and sites around a router, each in a network namespace of its own, on bare or shaped lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "cvp"
ROUTER = f"{PREFIX}r"
QUEUE_PACKETS = 10_000
STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Line:
    """What lies between a site and the router.

    Attributes:
        name: for tables.
        rate: bits per second each way, in the words of tc; None for bare veth.
        delay_seconds: one way, between any two of server and sites.
    """

    name: str
    rate: str | None = None
    delay_seconds: float = 0.0


VETH = Line("veth")
WAN = Line("100mbit", "100mbit", 0.01)


@dataclass
class Place:
    """One network namespace and the processes that were started in it; index 0 is the server."""

    index: int
    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def space(self) -> str:
        """Name of the namespace."""
        return f"{PREFIX}{self.index}"

    @property
    def address(self) -> str:
        """Its IPv4 address."""
        return f"10.98.{self.index}.2"

    def spawn(
        self, command: Sequence[object], environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a process here; what it says goes to `log`."""
        whole = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.space, *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd or self.directory, start_new_session=True,
                env={**whole, "OMP_NUM_THREADS": "1", **(environment or {})},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def traffic(self) -> tuple[int, int]:
        """Bytes received and sent on the veth, headers included."""
        found = _ip("netns", "exec", self.space, "cat", "/proc/net/dev")
        figures = next(line for line in found.splitlines() if "eth0:" in line).partition(":")[2].split()
        return int(figures[0]), int(figures[8])

    def stop(self) -> None:
        """End everything in this namespace."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            end = time.monotonic() + STOP_SECONDS
            while (pids := _ip("netns", "pids", self.space, check=False).split()) and time.monotonic() < end:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signum)
                time.sleep(0.1)
        for process in self.processes:
            process.wait()


def _ip(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True, text=True).stdout


def _tc(space: str, device: str, line: Line) -> None:
    shape = ["tbf", "rate", line.rate, "burst", "128kb", "latency", "100ms"] if line.rate else None
    queue = shape or ["pfifo", "limit", str(QUEUE_PACKETS)]
    subprocess.run(["tc", "-n", space, "qdisc", "add", "dev", device, "root", *queue], check=True)


@contextmanager
def star(line: Line, sites: int, folder: Path) -> Iterator[tuple[Place, list[Place]]]:
    """Server and sites; all processes and namespaces end with the block."""
    places = [Place(index, folder / f"place-{index}") for index in range(sites + 1)]
    delaying: subprocess.Popen[str] | None = None
    try:
        _ip("netns", "add", ROUTER)
        for place in places:
            place.directory.mkdir(parents=True)
            _join(place)
            if place.index:
                _tc(place.space, "eth0", line)
                _tc(ROUTER, f"v{place.index}", line)
        if line.delay_seconds:
            delaying = _delay(line.delay_seconds, places)
        yield places[0], places[1:]
    finally:
        for place in places:
            place.stop()
        if delaying is not None:
            delaying.kill()
            delaying.wait()
        for space in [*(place.space for place in places), ROUTER]:
            _ip("netns", "delete", space, check=False)


def _join(place: Place) -> None:
    outer, network = f"v{place.index}", f"10.98.{place.index}"
    _ip("netns", "add", place.space)
    _ip("link", "add", "eth0", "netns", place.space, "type", "veth", "peer", "name", outer, "netns", ROUTER)
    for space, device, address in ((place.space, "eth0", place.address), (ROUTER, outer, f"{network}.1")):
        _ip("-n", space, "address", "add", f"{address}/24", "dev", device)
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "link", "set", device, "up")
    _ip("-n", place.space, "route", "add", "default", "via", f"{network}.1")
    _sysctl(place.space, "all.rp_filter=0", "default.rp_filter=0")
    _sysctl(ROUTER, "all.rp_filter=0", "default.rp_filter=0", "all.forwarding=1")


def _sysctl(space: str, *settings: str) -> None:
    for setting in settings:
        _ip("netns", "exec", space, "sysctl", "-qw", f"net.ipv4.conf.{setting}")


def _delay(seconds: float, places: Sequence[Place]) -> subprocess.Popen[str]:
    """Route everything that crosses the router through a delay line."""
    command = ["ip", "netns", "exec", ROUTER, "nice", "-n", "-10", sys.executable, "-m"]
    process = subprocess.Popen(
        [*command, "covey_bench.rounds.delay_line", "delay0", str(seconds)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit("the delay line needs /dev/net/tun")
    _ip("-n", ROUTER, "link", "set", "delay0", "up", "txqueuelen", "5000")
    _sysctl(ROUTER, "delay0.rp_filter=0")
    _ip("-n", ROUTER, "route", "add", "default", "dev", "delay0", "table", "100")
    for place in places:
        _ip("-n", ROUTER, "rule", "add", "iif", f"v{place.index}", "lookup", "100")
    return process
