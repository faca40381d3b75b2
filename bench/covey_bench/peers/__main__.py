"""`make bench-peers`: what a round costs in Covey and in its peers, on bare veth and at 100 Mbit/s with 20 ms (root).

A round is the time from when the last site can begin to train to when it can in the next round. Training and judging
are nil in every system. The order is that of the systems, so that each is alone on the machine.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from covey_bench import report
from covey_bench.peers import covey, flare, floor, flower, payload
from covey_bench.peers.figures import Results, figures
from covey_bench.peers.trial import SITES, WARM_UP, Rounds, Trial
from covey_bench.star import Link, routed

NETWORK = "cvpeers"
LINKS = {
    "veth": None,
    "100mbit": Link(megabits_per_second=100, round_trip_milliseconds=20, unlimited=frozenset({0})),
    "100mbit_server_too": Link(megabits_per_second=100, round_trip_milliseconds=20),
}
SYSTEMS: dict[str, Callable[[Trial], Rounds]] = {
    "covey": lambda trial: covey.run(trial, "SparseLoCo"),
    "covey_dense": lambda trial: covey.run(trial, "None"),
    "flower": flower.run,
    "flare": flare.run,
    "flare_4bit": lambda trial: flare.run(trial, "normfloat4"),
    "floor": floor.run,
}
# Every fifth of Covey's results goes on chain while the next round is played: a median of five rounds would depend on
# where they begin.
ROUNDS_OF_COVEY = 20


def measure(system: str, network: str, rounds: int) -> Rounds:
    with tempfile.TemporaryDirectory(prefix="covey-peers-") as name, routed(NETWORK, SITES + 1, LINKS[network]) as star:
        folder = Path(name)
        for made in ("run/marks", "deltas"):
            (folder / made).mkdir(parents=True)
        payload.keep_deltas(folder / "deltas", SITES)
        trial = Trial(star, folder / "run", folder / "deltas", WARM_UP + rounds + 1)
        try:
            return SYSTEMS[system](trial)
        finally:
            trial.close()


def main() -> int:
    """Measure, print, write; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="covey_bench.peers")
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--network", nargs="+", choices=LINKS, default=["veth", "100mbit"])
    parser.add_argument("--rounds", type=int, default=5, help="of each system but Covey with compression")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        print("network namespaces need root")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that namespaces and processes go
    results: Results = {}
    for network in chosen.network:
        for system in chosen.only:
            rounds = ROUNDS_OF_COVEY if system == "covey" else chosen.rounds
            found = results[system, network] = measure(system, network, rounds)
            each = ", ".join(f"{seconds:.2f}" for seconds in found.seconds)
            print(f"{system} {network}: {found.median_seconds:.2f} s ({each})", flush=True)
    listed = figures(results)
    report.show("peers", listed)
    print(f"written: {report.write('peers', listed).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in listed))


if __name__ == "__main__":
    sys.exit(main())
