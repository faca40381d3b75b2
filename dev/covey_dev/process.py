"""Running programs: in the foreground with a readable failure, and in the background with a pid file."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covey_dev.errors import CommandError, NotReadyError

_TAIL_CHARACTERS = 3000


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    remedy: str = "Read the output above, correct the cause, and run the same command again: finished parts are kept.",
) -> str:
    """Run a program to its end and return its standard output.

    Args:
        *command: the program and its arguments.
        cwd: the directory to run it in; this process's without it.
        env: variables added to (or replacing) those of this process.
        stdin: text for its standard input; without it the input is empty.
        remedy: what to tell the person if it fails.

    Raises:
        CommandError: non-zero status, or no such program; carries the end of what it printed.
    """
    arguments = [str(part) for part in command]
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise CommandError(f"program {arguments[0]} is not installed", remedy) from error
    if done.returncode != 0:
        printed = (done.stdout + done.stderr)[-_TAIL_CHARACTERS:]
        raise CommandError(f"`{shlex.join(arguments)[:300]}` ended with {done.returncode}", remedy, printed)
    return done.stdout


def until(
    ready: Callable[[], bool],
    what: str,
    seconds: float,
    remedy: str,
    log: Path | None = None,
    every_seconds: float = 0.1,
) -> None:
    """Wait until `ready()` holds.

    Raises:
        NotReadyError: it did not within `seconds`; carries the end of the file `log`.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise NotReadyError(f"{what} was not ready after {seconds:.0f} s", remedy, tail(log) if log else "")
        time.sleep(every_seconds)


def tail(path: Path) -> str:
    """The last lines of a log file, or nothing if there is none."""
    return path.read_text(errors="replace")[-_TAIL_CHARACTERS:] if path.exists() else ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), field 22); None if there is no such process.

    A pid is used again after a while; pid and start time together name one process for good.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True)
class Process:
    """A process that an earlier command may have started, named by pid and start time."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The process that has this pid now.

        Raises:
            CommandError: there is none (it ended at once).
        """
        started = start_ticks(pid)
        if started is None:
            raise CommandError(f"process {pid} ended as soon as it was started", "See its log file.")
        return cls(pid, started)

    @classmethod
    def load(cls, path: Path) -> "Process | None":
        """The process that `save` wrote to `path`, or None if it is gone or there is no such file."""
        if not path.exists():
            return None
        pid, started = map(int, path.read_text().split())
        process = cls(pid, started)
        return process if process.alive else None

    def save(self, path: Path) -> None:
        """Write the pid file, whole or not at all: others wait for it to appear."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(f"{self.pid} {self.started}\n")
        new.rename(path)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return start_ticks(self.pid) == self.started

    def stop(self, grace_seconds: float = 5.0) -> None:
        """Ask it to end, kill it when it does not within `grace_seconds` (0: kill at once); return when it is gone."""
        gently = [(signal.SIGTERM, grace_seconds)] if grace_seconds else []
        for number, seconds in (*gently, (signal.SIGKILL, 10.0)):
            if not self.alive:
                return
            os.kill(self.pid, number)
            deadline = time.monotonic() + seconds
            while self.alive and time.monotonic() < deadline:
                time.sleep(0.02)
        if self.alive:
            raise NotReadyError(f"process {self.pid} did not die", "It hangs in the kernel: see `cat /proc/PID/stack`.")


def spawn(command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> Process:
    """Start a program in a session of its own, its output appended to `log`; it outlives this process.

    Raises:
        CommandError: there is no such program.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [str(part) for part in command]
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        pid = os.posix_spawnp(
            arguments[0],
            arguments,
            {**os.environ, **(env or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
    except FileNotFoundError as error:
        raise CommandError(f"program {arguments[0]} is not installed", "Run `python -m covey_dev tools`.") from error
    return Process.of(pid)
