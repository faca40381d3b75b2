"""`make bench-incentives`: python -m covey_bench.incentives [--seeds 20] [--only TEXT]."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table

from covey_bench import report
from covey_bench.incentives import figures
from covey_bench.incentives.outturn import Run, Scenario
from covey_bench.incentives.run import runs
from covey_bench.incentives.scenarios import reference, scenarios


def _table(found: dict[Scenario, list[Run]]) -> Table:
    table = Table(
        "task", "scenario", "pays", "role", "net, median [10 %, 90 %]", "held at most", "removed", "proven", "accuracy"
    )  # fmt: skip
    for scenario, of in found.items():
        for row in figures.rows(scenario, of):
            table.add_row(scenario.task.name, scenario.name, scenario.money.value, *row.cells)
        table.add_section()
    return table


@click.command(help=__doc__)
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True, help="Seeds of each scenario.")
@click.option("--only", default="", help="Scenarios whose task and name contain this text.")
def main(seeds: int, only: str) -> None:
    """Run all, print the tables, write the file; 1 if a goal is missed."""
    wanted = [s for s in scenarios() if only in f"{s.task.name}/{s.name}/{s.money.value}"]
    plain = dict.fromkeys(r for r in map(reference, wanted) if r is not None)
    jobs = [(scenario, seed) for scenario in dict.fromkeys([*wanted, *plain]) for seed in range(seeds)]
    results, seconds = runs(jobs)
    found = {scenario: [results[scenario, seed] for seed in range(seeds)] for scenario in wanted}
    without = {scenario: [results[scenario, seed] for seed in range(seeds)] for scenario in plain}
    Console(width=160).print(_table(found))
    headline = figures.headline(found, without)
    report.show("incentives", headline)
    rows = [figure for scenario, of in found.items() for figure in figures.as_figures(scenario, of)]
    spent = report.Figure("core_seconds_per_seed", seconds / seeds, "s", None, "lower")
    if not only:
        path = report.write("incentives", [*headline, spent, *rows])
        print(f"written: {path.relative_to(report.OUT.parents[1])}")
    print(f"{seeds} seeds, {seconds / seeds:.0f} s a seed on one core")
    sys.exit(int(any(figure.met is False for figure in headline)))


if __name__ == "__main__":
    main()
