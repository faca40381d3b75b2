"""Deals scikit-learn's Wisconsin breast cancer records out to members, as hospitals would have them.

Malignant and benign cases reach a hospital by different ways, so that at each hospital the two differ in more than
malignancy: at one the malignant tumours have the more complex outlines, at another the rougher texture, at a third the
smoother. A model learns the ways of its hospital along with the disease, and does worse elsewhere (Zech et al. 2018,
doi:10.1371/journal.pmed.1002683). Together the hospitals have no such bias: they hold all records but the test set's.
That is two fifths of all, chosen by chance, which nobody trains on.

The records are as published; only who holds which is made up. With CASE_MIX = 0 all hospitals see alike cases, and the
data are so easy that training together gains nothing that this test set could show.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from wdbc.records import FILE

TEST_FRACTION = 0.4
CASE_MIX = 6.0  # how strongly the kind of case decides which hospital a patient goes to; 0 is not at all
KINDS = ("mean fractal dimension", "mean texture")  # of the outline, and of the grey values
_SIZE_RATIO = 2.0  # of the largest member to the smallest, if the kind of case decided nothing

Indices = NDArray[np.int64]


def split(kinds: NDArray[np.float64], y: NDArray[np.int64], members: int, seed: int) -> tuple[Indices, list[Indices]]:
    """Positions of the common test set and of each member's records.

    Args:
        kinds: [n, 2] what decides, beside the diagnosis, which hospital a patient goes to.
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
    place = np.zeros((len(rest), 2))
    for label, sign in ((0, -1), (1, 1)):
        where = np.flatnonzero(y[rest] == label)
        # Ranks among cases of the same diagnosis, -1 to 1; opposite for the two, so that each hospital's differ.
        rank = np.argsort(np.argsort(kinds[rest[where]], axis=0), axis=0) / (len(where) - 1)
        place[where] = sign * (2 * rank - 1)
    angle = 2 * np.pi * np.arange(members) / members
    draw = np.stack([np.cos(angle), np.sin(angle)])
    odds = np.geomspace(_SIZE_RATIO, 1, members) * np.exp(CASE_MIX * place @ draw)
    bounds = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)
    member = (generator.random((len(rest), 1)) > bounds[:, :-1]).sum(axis=1)
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
    kinds = records.data[:, [list(records.feature_names).index(kind) for kind in KINDS]]
    test, parts = split(kinds, y, members, seed)
    for name, where in [("test", test), *((f"member-{i}", part) for i, part in enumerate(parts, start=1))]:
        write(out / name, x[where], y[where])
        click.echo(f"{out / name / FILE}: {len(where)} records, {y[where].mean():.0%} malignant")


if __name__ == "__main__":
    main()
