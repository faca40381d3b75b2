"""What one run of a system gave."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from covey_bench.rounds.star import Place

PARAMETERS_HIDDEN = 4096  # an MLP 784-4096-4096-1024-10: 24.2 M float32, 96.8 MB
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Outcome:
    """Seconds of each round but the first, and the mean of bytes that a site sent and received in one of them."""

    seconds: tuple[float, ...]
    sent: float
    received: float

    @property
    def median(self) -> float:
        """Median seconds of a round."""
        return statistics.median(self.seconds)


class Watch:
    """Notes the traffic of all sites while a run goes on, so that it can be read at the ends of rounds."""

    def __init__(self, sites: Sequence[Place]) -> None:
        self._sites = sites
        self._seen: list[tuple[float, float, float]] = []

    def look(self) -> None:
        """Note it now."""
        received, sent = zip(*(site.traffic() for site in self._sites), strict=True)
        self._seen.append((time.time(), statistics.mean(sent), statistics.mean(received)))

    def until(self, done: Callable[[], bool], limit_seconds: float, logs: Sequence[Path]) -> None:
        """Look on until something is so.

        Raises:
            SystemExit: it took too long; with the ends of the logs.
        """
        end = time.time() + limit_seconds
        while not done():
            if time.time() > end:
                tails = "\n".join(f"== {log}\n{log.read_text()[-2000:]}" for log in logs if log.exists())
                raise SystemExit(f"not done after {limit_seconds:.0f} s\n{tails}")
            self.look()
            time.sleep(POLL_SECONDS)
        self.look()

    def outcome(self, ends: Sequence[float]) -> Outcome:
        """From the times at which rounds ended, the first (with all that starts up) being left out.

        Args:
            ends: seconds since 1970, ascending; two at least.
        """
        seconds = tuple(later - earlier for earlier, later in pairwise(ends))
        first, last = self._at(ends[0]), self._at(ends[-1])
        return Outcome(seconds, *((b - a) / len(seconds) for a, b in zip(first, last, strict=True)))

    def _at(self, moment: float) -> tuple[float, float]:
        """Sent and received at a moment, between two looks by interpolation."""
        before = [seen for seen in self._seen if seen[0] <= moment] or self._seen[:1]
        after = [seen for seen in self._seen if seen[0] > moment] or self._seen[-1:]
        (t0, *a), (t1, *b) = before[-1], after[0]
        share = (moment - t0) / (t1 - t0) if t1 > t0 else 0.0
        sent, received = (x + (y - x) * min(max(share, 0.0), 1.0) for x, y in zip(a, b, strict=True))
        return sent, received


def marks(path: Path, what: str) -> list[float]:
    """Times that a run has noted under a name, in order."""
    if not path.exists():
        return []
    return [float(line.split()[-1]) for line in path.read_text().splitlines() if line.split()[0] == what]
