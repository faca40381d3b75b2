"""One system's run: its processes in their namespaces, when its rounds began, and what went by meanwhile."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from covey_bench import cpu
from covey_bench.peers import payload
from covey_bench.star import Star

SITES = 3
WARM_UP = 2  # rounds in which processes still load and compile
SAMPLE_SECONDS = 0.1
SECONDS_A_ROUND_MAX = 300
LOG_CHARACTERS = 3000


class Sample(NamedTuple):
    """Counters at one time.

    Attributes:
        at: Unix time, seconds.
        busy: seconds for which the machine's cores have worked, all cores and processes together.
        traffic: per place bytes sent and received.
    """

    at: float
    busy: float
    traffic: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Rounds:
    """What the rounds of a system took once it was warm.

    Attributes:
        seconds: from when the last site can begin to train to when it can in the next round, for each round.
        sent_bytes, received_bytes: by a site in a round, on its veth; means.
        busy_seconds: of the machine's cores in a round, all sites and the server or chain together; the mean.
    """

    seconds: list[float]
    sent_bytes: float
    received_bytes: float
    busy_seconds: float

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    def busy_share(self, cores: int) -> float:
        """How much of the cores' time the rounds took, 0 to 1: near 1 only less work, or more cores, can be faster."""
        return self.busy_seconds / (statistics.mean(self.seconds) * cores)

    @property
    def moved_bytes(self) -> float:
        """Both ways."""
        return self.sent_bytes + self.received_bytes


def rounds_of(begins: Sequence[float], samples: Sequence[Sample], sites: Sequence[int]) -> Rounds:
    """From when each round began at the last site, and counters over time; the first rounds are left out."""
    warm = begins[WARM_UP:]
    count = len(warm) - 1
    first, last = counters_at(samples, warm[0]), counters_at(samples, warm[-1])
    sent, received = (
        statistics.mean((last.traffic[site][way] - first.traffic[site][way]) / count for site in sites)
        for way in (0, 1)
    )
    busy = (last.busy - first.busy) / count
    return Rounds([after - before for before, after in pairwise(warm)], sent, received, busy)


def counters_at(samples: Sequence[Sample], at: float) -> Sample:
    """Counters at a time, between two samples by a straight line."""
    place = min(max(bisect_right([sample.at for sample in samples], at), 1), len(samples) - 1)
    before, after = samples[place - 1], samples[place]
    share = min(1.0, max(0.0, (at - before.at) / (after.at - before.at)))

    def between(a: float, b: float) -> float:
        return a + share * (b - a)

    traffic = [(between(a[0], b[0]), between(a[1], b[1])) for a, b in zip(before.traffic, after.traffic, strict=True)]
    return Sample(at, between(before.busy, after.busy), traffic)


def begins(marks: Path, rounds: int) -> list[float]:
    """When the last site could begin to train, round by round; only of rounds that all have begun."""
    found = []
    for site in range(SITES):
        path = marks / str(site)
        lines = path.read_text().splitlines() if path.exists() else []
        times = dict(line.split() for line in lines if len(line.split()) == 2)
        found.append({int(number): float(when) for number, when in times.items()})
    complete = [number for number in range(1, rounds + 1) if all(number in site for site in found)]
    return [max(site[number] for site in found) for number in complete]


@dataclass
class Trial:
    """Where a system runs: place 0 is its server or the chain, its sites are 1 to `SITES`.

    Attributes:
        rounds: that the system shall play; the end of the last one is not seen.
    """

    star: Star
    folder: Path
    deltas: Path
    rounds: int
    processes: list[tuple[subprocess.Popen[bytes], Path]] = field(default_factory=list)

    @property
    def marks(self) -> Path:
        return self.folder / "marks"

    def start(
        self, place: int, *command: str | Path, environment: Mapping[str, str] | None = None, inner: Sequence[str] = ()
    ) -> Path:
        """Start a program in a place; returns its log."""
        log = self.folder / f"{len(self.processes)}-{Path(command[0]).name}.log"
        variables = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        variables.pop("PYTHONDONTWRITEBYTECODE", None)
        variables |= {
            "OMP_NUM_THREADS": "1",
            payload.MARKS: str(self.marks),
            payload.DELTAS: str(self.deltas),
            payload.SITE: str(place - 1),
            **(environment or {}),
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*self.star.inside(place), *inner, *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, env=variables,
            )  # fmt: skip
        self.processes.append((process, log))
        return log

    def wait(self, ready: Callable[[], bool], what: str, seconds: float, sign_of_failure: str | None = None) -> None:
        """Wait for something; end with the logs if a process fails, prints a sign of it, or it takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            failed = [log for process, log in self.processes if process.poll() not in (None, 0)]
            if sign_of_failure is not None:
                failed += [log for _, log in self.processes if sign_of_failure in log.read_text(errors="replace")]
            if failed or time.monotonic() > deadline:
                for log in failed or [log for _, log in self.processes]:
                    print(f"--- {log}:\n{log.read_text(errors='replace')[-LOG_CHARACTERS:]}", file=sys.stderr)
                raise SystemExit(f"{what}: {'a process ended' if failed else 'not in time'}")
            time.sleep(SAMPLE_SECONDS)

    def measure(self, sign_of_failure: str | None = None) -> Rounds:
        """Wait until all rounds have begun."""
        with _samples(self.star) as samples:
            limit = self.rounds * SECONDS_A_ROUND_MAX
            self.wait(lambda: len(begins(self.marks, self.rounds)) == self.rounds, "rounds", limit, sign_of_failure)
            time.sleep(2 * SAMPLE_SECONDS)
        return rounds_of(begins(self.marks, self.rounds), samples, range(1, SITES + 1))

    def close(self) -> None:
        """End every process that was started."""
        for process, _ in self.processes:
            process.terminate()
        for process, _ in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _samples(star: Star) -> Iterator[list[Sample]]:
    found: list[Sample] = []
    done = threading.Event()

    def look() -> None:
        found.append(Sample(time.time(), cpu.seconds_of_machine(), star.traffic()))

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            look()

    look()
    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()
