"""Deals scikit-learn's Wisconsin breast cancer records out to members, as hospitals would have them.

Members differ in size, and in case mix: some are screening centres that see small tumours, others referral centres
that see large ones, so that the share of malignant cases differs too. A fifth of the records is kept aside as the
common test set that nobody trains on.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from wdbc.records import FILE

TEST_FRACTION = 0.2
CASE_MIX = 1.0  # how strongly tumour size decides which hospital a patient goes to; 0 is not at all
_SIZE_RATIO = 2.0  # of the largest member to the smallest

Indices = NDArray[np.int64]


def split(radius: NDArray[np.float64], y: NDArray[np.int64], members: int, seed: int) -> tuple[Indices, list[Indices]]:
    """Positions of the common test set and of each member's records.

    Args:
        radius: [n] tumour size by which patients find their hospital.
        y: [n] labels; the test set holds each class in proportion.
        members: number of members, at least 1.
        seed: of the deal.
    """
    generator = np.random.default_rng(seed)
    test = np.concatenate(
        [
            generator.permutation(where)[: round(len(where) * TEST_FRACTION)]
            for where in map(np.flatnonzero, (y == 0, y == 1))
        ]
    )
    rest = np.setdiff1d(np.arange(len(y)), test)
    rank = np.argsort(np.argsort(radius[rest])) / (len(rest) - 1)
    place = np.linspace(1, -1, members) if members > 1 else np.zeros(1)
    size = np.geomspace(_SIZE_RATIO, 1, members)
    odds = size * np.exp(CASE_MIX * np.outer(2 * rank - 1, place))
    bounds = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    member = (generator.random((len(rest), 1)) > bounds).sum(axis=1)
    return np.sort(test), [rest[member == i] for i in range(members)]


def write(directory: Path, x: NDArray[np.float32], y: NDArray[np.int64]) -> None:
    """Store one folder of records in schema wdbc-v1."""
    directory.mkdir(parents=True, exist_ok=True)
    np.savez(directory / FILE, x=x, y=y)


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write to.")
@click.option("--members", type=click.IntRange(1, 16), default=3, show_default=True, help="Number of members.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the deal.")
def main(out: Path, members: int, seed: int) -> None:
    """Write OUT/test and OUT/member-1, OUT/member-2, …"""
    records = load_breast_cancer()
    x = records.data.astype(np.float32)
    y = (records.target == 0).astype(np.int64)  # scikit-learn counts malignant as 0
    test, parts = split(records.data[:, 0], y, members, seed)
    for name, where in [("test", test), *((f"member-{i}", part) for i, part in enumerate(parts, start=1))]:
        write(out / name, x[where], y[where])
        click.echo(f"{out / name / FILE}: {len(where)} records, {y[where].mean():.0%} malignant")


if __name__ == "__main__":
    main()
