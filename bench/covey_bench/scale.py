"""`make bench-scale`: how a round grows with members and parameters, in virtual time (docs/explanation/scale.md).

The machines are those of production; lines are simulated, CPU costs measured first. Nothing is trained. What is not
built (committees, rings of rings, fewer evaluations, fewer relays) is marked in the table and in the names.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path

from covey_scale import committee, measure, real
from covey_scale.costs import Costs, Load
from covey_scale.lines import Line
from covey_scale.world import Played, World, addresses
from rich.console import Console
from rich.table import Table

from covey_bench import report
from covey_bench.report import Figure

SNAPSHOT = Path(__file__).parents[2] / "contracts" / "snapshots" / "Settlement.json"
ROUND_TRIP_SECONDS = 0.02
RATES = {"100mbit": 1e8, "1gbit": 1e9}
MODELS = {"1m": 10**6, "24m": 24 * 10**6, "100m": 10**8, "1b": 10**9}
SIZES = (3, 5, 8, 16, 32)
SIZES_OF_ALL_MODELS = (3, 8, 32)
SEED = bytes(range(32))
LEFT_OUT = 8  # models without one site that a validator of many members would evaluate
RELAYS = 6
LYING = (1 / 10, 1 / 5, 1 / 4)
SEATS = (30, 64, 100, 200, 400)
ACCEPTABLE = 1e-9  # for a committee to fail, once

# Sites, bytes of an update, bits per second, seconds one way: slow lines, so that CPU time does not count.
CHECKS = ((3, 450_000, 5e6, 0.0), (3, 450_000, 5e6, 0.1), (8, 450_000, 5e6, 0.1))


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: of its figures.
        how: for people; empty for what is built.
        members: how many.
        voters: of them who sign the result on chain.
        played: what it took.
    """

    name: str
    how: str
    members: int
    voters: int
    played: Played


def access(bits_per_second: float, slice_bytes: int = 2**16) -> Line:
    """A line on which two sites are a round trip of 20 ms apart."""
    return Line(bits_per_second, bits_per_second, ROUND_TRIP_SECONDS / 4, slice_bytes)


def built(costs: Costs) -> Iterator[Case]:
    """Every member votes, relays to all, and scores without each, as in production."""
    for model, parameters in MODELS.items():
        load = Load(parameters, measure.update_bytes(parameters))
        for members in SIZES if model == "24m" else SIZES_OF_ALL_MODELS:
            for rate, bits_per_second in RATES.items():
                yield _all_vote(f"n{members}_{model}_{rate}", members, access(bits_per_second), load, costs)


def large(costs: Costs) -> Iterator[Case]:
    """100 and 1,024 members with 24 M parameters, with what is not built."""
    load = _few()
    for rate, bits_per_second in RATES.items():
        line = access(bits_per_second)
        yield _of_committee(100, 64, rate, line, load, costs)
        yield _of_rings(10, 10, rate, line, load, costs)
        yield _of_rings(32, 32, rate, line, load, costs)


def slow(costs: Costs) -> Iterator[Case]:
    """What takes minutes to simulate: 100 members who all vote, and a ring of 1,000."""
    load, line = _few(), access(RATES["100mbit"])
    played = World(addresses(100), line, load, costs, relays=RELAYS, timer=time.thread_time).play()
    yield Case(f"n100_24m_100mbit_relays{RELAYS}", f"{RELAYS} relays, {LEFT_OUT} left out", 100, 100, played)
    yield _all_vote("n100_24m_100mbit", 100, line, replace(load, left_out=None), costs)
    yield _of_committee(1000, 64, "100mbit", access(RATES["100mbit"], 2**20), load, costs)


def _few() -> Load:
    parameters = MODELS["24m"]
    return Load(parameters, measure.update_bytes(parameters), LEFT_OUT)


def _all_vote(name: str, members: int, line: Line, load: Load, costs: Costs) -> Case:
    played = World(addresses(members), line, load, costs, timer=time.thread_time).play()
    return Case(name, "", members, members, played)


def _of_committee(members: int, seats: int, rate: str, line: Line, load: Load, costs: Costs) -> Case:
    names = addresses(members)
    votes = committee.sample(dict.fromkeys(names, 1), seats, SEED)
    played = World(names, line, load, costs, committee=votes, timer=time.thread_time).play()
    how = f"committee of {seats}, {LEFT_OUT} left out"
    return Case(f"n{members}_24m_{rate}_committee{seats}", how, members, len(votes), played)


def _of_rings(groups: int, size: int, rate: str, line: Line, load: Load, costs: Costs) -> Case:
    """Each group plays a round of its own; what it certified is encoded anew and is one update of a round of groups.

    In that second round one member of each group votes, chosen by chance. Every other member hands its group's update
    round a ring of its own, with one member of each other group, and so has all of them, too.
    """
    inside = World(addresses(size), line, load, costs, timer=time.thread_time).play()
    among = World(addresses(groups), line, load, costs, timer=time.thread_time).play()
    name = f"n{groups * size}_24m_{rate}_rings"
    return Case(name, f"{groups} rings of {size}, {LEFT_OUT} left out", groups * size, groups, both(inside, among))


def both(first: Played, second: Played) -> Played:
    """One after the other, at a site that takes part in both."""
    sums = {
        item.name: getattr(first, item.name) + getattr(second, item.name)
        for item in fields(Played)
        if item.name not in ("result", "slowest_update_seconds")
    }
    slowest = max(first.slowest_update_seconds, second.slowest_update_seconds)
    return Played(result=second.result, slowest_update_seconds=slowest, **sums)


# --- figures --------------------------------------------------------------------------------------------------------


def gas(signatures: int) -> float:
    """Of a later round's settlement: what the contract's gas test found, and on the line through it beyond."""
    found = {
        int(match[1]): int(value)
        for case, value in json.loads(SNAPSHOT.read_text()).items()
        if (match := re.fullmatch(r"\d+ sites, (\d+) signatures, later", case))
    }
    (few, low), *_, (many, high) = sorted(found.items())
    return low + (signatures - few) * (high - low) / (many - few)


def figures_of(case: Case) -> list[Figure]:
    """All that is known of a row."""
    played = case.played
    seconds = {
        "round_seconds": played.round_seconds,
        "exchange_seconds": played.exchange_seconds,
        "agreement_seconds": played.agreement_seconds,
        "scores_seconds": played.evaluate_seconds + played.scores_seconds,
        "round_seconds_without_evaluation": played.round_seconds - played.evaluate_seconds,
        "cpu_seconds": played.cpu_seconds,
        "machine_cpu_seconds": played.machine_seconds,
    }
    return [
        *(Figure(f"{name}_{case.name}", value, "s", None, "lower") for name, value in seconds.items()),
        Figure(f"bulk_bytes_out_{case.name}", played.bulk_bytes, "B", None, "lower"),
        Figure(f"control_bytes_out_{case.name}", played.control_bytes, "B", None, "lower"),
        Figure(f"messages_out_{case.name}", played.copies, "messages", None, "lower"),
        Figure(f"gas_{case.name}", gas(case.voters * 2 // 3 + 1), "gas", None, "lower"),
    ]


def flood(members: int) -> int:
    """Copies that one site sends in a round in which all vote and relay to all, and no view fails."""
    own = 8  # header, commit, reveal, result, and two votes twice
    messages = own * members + 2  # and two proposals
    return own * (members - 1) + (messages - own) * (members - 2)  # not back to where it came from


def of_committees() -> list[Figure]:
    """How likely a committee is to fail, and how large it has to be."""
    found = []
    for lying in LYING:
        name = f"lying_{round(100 * lying)}_percent"
        found += [
            Figure(f"committee_fails_{seats}_seats_{name}", committee.failure(seats, lying), "", None, "lower")
            for seats in SEATS
        ]
        found.append(Figure(f"committee_seats_{name}", committee.seats_for(lying, ACCEPTABLE), "seats", None, "lower"))
    return found


def checks(costs: Costs) -> list[Figure]:
    """Simulated by real: seconds and bytes of exchanges that run on loopback with an egress cap."""
    found = []
    for sites, length, rate, delay in CHECKS:
        truth = real.send_updates(sites, length, bits_per_second=rate, one_way_seconds=delay)
        # The cap lets a slice and a tenth of a second through at once; loopback has no slow start.
        line = Line(rate, 1e12, delay / 2, burst_bytes=2**16 + rate / 80, initial_window_bytes=2**30)
        played = World(addresses(sites), line, Load(1, length), costs).play()
        name = f"n{sites}_{round(2000 * delay)}ms"
        found += [
            Figure(f"real_exchange_seconds_{name}", truth.seconds, "s", None, "lower"),
            Figure(f"simulated_by_real_seconds_{name}", played.exchange_seconds / truth.seconds, "x"),
            Figure(f"simulated_by_real_bulk_bytes_{name}", played.bulk_bytes / max(truth.bytes_sent), "x"),
        ]
    return found


HEAD = ("members, model, line", "not built", "round", "exchange", "agree", "scores", "bulk MB", "control MB",
        "messages", "k gas", "CPU")  # fmt: skip


def row(case: Case) -> list[str]:
    """Seconds, bytes sent and CPU seconds at the site that has most, for people."""
    p = case.played
    numbers = (p.round_seconds, p.exchange_seconds, p.agreement_seconds, p.evaluate_seconds + p.scores_seconds,
               p.bulk_bytes / 1e6, p.control_bytes / 1e6, p.copies, gas(case.voters * 2 // 3 + 1) / 1e3,
               p.cpu_seconds)  # fmt: skip
    return [case.name, case.how, *(f"{number:,.4g}" for number in numbers)]


def main(arguments: list[str]) -> int:
    """Measure, play, print, write; 1 if a goal is missed. `--all`: also what takes minutes to simulate."""
    costs = measure.costs()
    general = [Figure(f"cost_{item.name}", getattr(costs, item.name), "s", None, "lower") for item in fields(Costs)]
    general += [
        Figure(f"update_bytes_{model}", measure.update_bytes(parameters), "B", None, "lower")
        for model, parameters in MODELS.items()
    ]
    general += checks(costs) + of_committees()
    general += [Figure(f"messages_out_all_vote_n{n}", flood(n), "messages", None, "lower") for n in (32, 100, 1000)]
    report.show("scale: costs, checks, committees", general)
    cases = []
    table = Table(*HEAD, title="scale: a round")
    print("  ".join(HEAD))
    for case in chain(built(costs), large(costs), slow(costs) if "--all" in arguments else ()):
        cases.append(case)
        table.add_row(*row(case))
        print("  ".join(row(case)), flush=True)  # at once: the later ones take long
    Console(width=160).print(table)
    figures = [*general, *(figure for case in cases for figure in figures_of(case))]
    print(f"written: {report.write('scale', figures).relative_to(report.OUT.parents[1])}")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
