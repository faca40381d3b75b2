"""Keeps programs running: starts them again when they end, and ends them all when it is told to.

Standard library only: it is process 1 of every cluster's sandbox, and the parent of the registry and the chain.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

_PAUSE_SECONDS = 1.0
_GRACE_SECONDS = 3


class Supervisor:
    """Programs by name, each with a log file in `logs`; `watch` never returns."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[int, str] = {}
        self._programs: dict[str, Callable[[], int]] = {}
        signal.signal(signal.SIGTERM, self._end)

    def start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Start a program and keep it running; what it prints goes to `name`.log."""

        def launch() -> int:
            with open(self._logs / f"{name}.log", "ab") as log:
                child = subprocess.Popen(
                    [str(part) for part in command],
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            return child.pid

        self._programs[name] = launch
        self._running[launch()] = name

    def watch(self) -> None:
        """Reap every child, also orphans (process 1 inherits them), and restart programs that ended."""
        while True:
            pid, status = os.wait()
            name = self._running.pop(pid, None)
            if name:
                code = os.waitstatus_to_exitcode(status)
                print(f"{name} ended with {code}; starting it again", file=sys.stderr, flush=True)
                time.sleep(_PAUSE_SECONDS)
                self._running[self._programs[name]()] = name

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGALRM, lambda _number, _frame: self._signal_all(signal.SIGKILL))
        signal.alarm(_GRACE_SECONDS)
        self._signal_all(signal.SIGTERM)
        while self._running:
            self._running.pop(os.wait()[0], None)
        sys.exit(0)

    def _signal_all(self, number: int) -> None:
        for pid in self._running:
            os.kill(pid, number)


def main() -> None:
    """`python -m covey_dev.supervisor LOG-DIRECTORY NAME COMMAND…`: keep one program running."""
    logs, name, *command = sys.argv[1:]
    supervisor = Supervisor(Path(logs))
    supervisor.start(name, command)
    supervisor.watch()


if __name__ == "__main__":
    main()
