"""`make bench-gas`: what a settled round costs on chain, as a transaction of its own pays it.

Runs the contracts' gas test, which writes its figures down, and reads them. Several rounds in one post cost as much as
one, so what is shown is the most that a round can cost.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from covey_dev import foundry

from covey_bench import report
from covey_bench.report import Figure

CONTRACTS = Path(__file__).parents[2] / "contracts"
GOALS = {3: None, 16: 150_000, 64: 450_000}


def measure() -> dict[str, str]:
    """Name of a case -> gas, from a run of the test just now."""
    command = [str(foundry.directory() / "bin" / "forge"), "test", "--match-test", "test_GasOfResults"]
    environment = {**os.environ, "FORGE_SNAPSHOT_CHECK": "false"}
    done = subprocess.run(command, cwd=CONTRACTS, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    found: dict[str, str] = json.loads((CONTRACTS / "snapshots" / "Settlement.json").read_text())
    return found


def main() -> int:
    """Measure, print, write; 1 if a goal is missed."""
    found = measure()
    figures = []
    for sites, goal in GOALS.items():
        case = f"{sites} sites, {sites * 2 // 3 + 1} signatures"
        first, later = (float(found[f"{case}, {when}"]) for when in ("first", "later"))
        figures += [
            Figure(f"gas_round_{sites}", later, "gas", goal, "lower"),
            Figure(f"gas_first_round_{sites}", first, "gas", None, "lower"),
        ]
    report.show("gas", figures)
    print(f"written: {report.write('gas', figures).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
