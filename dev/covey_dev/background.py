"""A program that runs under a supervisor in the background, with a pid file: the registry, the chain."""

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from covey_dev import network, paths
from covey_dev.process import Process, spawn, until
from covey_dev.progress import step

_READY_SECONDS = 20.0


@dataclass(frozen=True)
class Service:
    """One program at an address of the host; `name` also names its directory of state."""

    name: str
    port: int
    host: str = network.HOST

    @property
    def directory(self) -> Path:
        """Its pid file and log."""
        return paths.state() / self.name

    @property
    def address(self) -> str:
        """HOST:PORT, for the host and for pods."""
        return f"{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its supervisor lives."""
        return Process.load(self._pid) is not None

    @property
    def answers(self) -> bool:
        """Whether something accepts connections at its address."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def up(self, command: Sequence[str | Path]) -> None:
        """Start it unless it runs; return when it takes connections."""
        if self.running:
            return
        with step(f"{self.name} on {self.address}"):
            self.directory.mkdir(parents=True, exist_ok=True)
            watch = [sys.executable, "-m", "covey_dev.supervisor", self.directory, self.name, *command]
            log = self.directory / "supervisor.log"
            spawn(watch, log, {"PYTHONPATH": str(paths.DEV)}).save(self._pid)
            own_log = self.directory / f"{self.name}.log"
            until(lambda: self.answers, self.name, _READY_SECONDS, f"Read {own_log}.", own_log)

    def down(self) -> None:
        """Stop it, and return when its address is free again."""
        process = Process.load(self._pid)
        if process:
            process.stop()
            until(
                lambda: not self.answers, f"the end of {self.name}", _READY_SECONDS, f"Kill what holds {self.address}."
            )
        self._pid.unlink(missing_ok=True)

    @property
    def _pid(self) -> Path:
        return self.directory / "pid"
