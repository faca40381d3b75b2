"""`make bench-peers`: rounds of all systems on all lines, in one run on one machine."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from covey_bench import report
from covey_bench.report import Figure
from covey_bench.rounds import covey, floor, peers
from covey_bench.rounds.outcome import Outcome
from covey_bench.rounds.star import VETH, WAN, Line, Place, star

SITES = 3
MODEL_BYTES = 4 * sum(rows * columns + rows for rows, columns in covey.SHAPES.values())
System = Callable[[Place, Sequence[Place], int], Outcome]
SYSTEMS: dict[str, System] = {
    "floor": lambda server, sites, rounds: floor.run(server, sites, rounds, MODEL_BYTES),
    "covey": lambda server, sites, rounds: covey.run(server, sites, rounds, "sparse"),
    "covey_dense": lambda server, sites, rounds: covey.run(server, sites, rounds, "dense"),
    "flower": peers.flower,
    "flare": peers.flare,
    "flare_4bit": lambda server, sites, rounds: peers.flare(server, sites, rounds, "normfloat4"),
}
# Quantisation is there for slow lines; on a fast one it only costs time.
RUNS: tuple[tuple[Line, tuple[str, ...]], ...] = (
    (VETH, ("floor", "covey", "covey_dense", "flower", "flare")),
    (WAN, ("floor", "covey", "covey_dense", "flower", "flare", "flare_4bit")),
)
ROUNDS = {"covey": 8, "covey_dense": 5}
PEER_ROUNDS = 4


def figures(found: dict[tuple[str, str], Outcome]) -> list[Figure]:
    """Ratios with their goals, and what they come from; only of what was measured.

    Args:
        found: outcome by (line, system).
    """
    made: list[Figure] = []

    def ratio(name: str, line: str, slower: str, faster: str, goal: float) -> None:
        if (line, slower) in found and (line, faster) in found:
            value = found[line, slower].median / found[line, faster].median
            made.append(Figure(name, value, "x", goal))

    ratio("speedup_over_flower_100mbit", "100mbit", "flower", "covey", 40)
    ratio("speedup_over_flare_100mbit", "100mbit", "flare", "covey", 30)
    ratio("speedup_over_flare_4bit_100mbit", "100mbit", "flare_4bit", "covey", 10)
    ratio("speedup_over_flower_veth", "veth", "flower", "covey", 20)
    ratio("speedup_over_flare_veth", "veth", "flare", "covey", 8)
    ratio("dense_over_flare_100mbit", "100mbit", "flare", "covey_dense", 1)
    for peer in ("flower", "flare"):
        theirs, ours = found.get(("100mbit", peer)), found.get(("100mbit", "covey"))
        if theirs and ours:
            made.append(
                Figure(f"bytes_ratio_{peer}", (theirs.sent + theirs.received) / (ours.sent + ours.received), "x")
            )
    for (line, system), outcome in found.items():
        made += [
            Figure(f"{system}_{line}_round_seconds", outcome.median, "s", None, "lower"),
            Figure(f"{system}_{line}_site_sent_mb", outcome.sent / 1e6, "MB", None, "lower"),
            Figure(f"{system}_{line}_site_received_mb", outcome.received / 1e6, "MB", None, "lower"),
        ]
    return made


def measure(line: Line, system: str) -> Outcome:
    """One run of one system on one kind of line."""
    rounds = ROUNDS.get(system, PEER_ROUNDS)
    with tempfile.TemporaryDirectory(prefix="covey-rounds-") as folder, star(line, SITES, Path(folder)) as (hub, sites):
        outcome = SYSTEMS[system](hub, sites, rounds)
    times = " ".join(f"{seconds:.2f}" for seconds in outcome.seconds)
    sent, received = outcome.sent / 1e6, outcome.received / 1e6
    print(f"{system:12} {line.name:8} {times} s; {sent:.2f} MB out, {received:.2f} MB in", flush=True)
    return outcome


def main(arguments: list[str]) -> int:
    """Measure, print, write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(SYSTEMS), help="some systems; nothing is written")
    parser.add_argument("--line", choices=("veth", "100mbit"), help="one kind of line; nothing is written")
    chosen = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("network namespaces need root")
        return 2
    found = {
        (line.name, system): measure(line, system)
        for line, systems in RUNS
        for system in systems
        if (not chosen.line or chosen.line == line.name) and (not chosen.only or system in chosen.only)
    }
    made = figures(found)
    report.show("peers", made)
    if not chosen.only and not chosen.line:
        print(f"written: {report.write('peers', made).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in made))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
