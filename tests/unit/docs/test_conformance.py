"""The table of checks is whole, and every test that it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/reference/operator-conformance.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if re.match(r"\| \d+ ", line)
]
NAMED = sorted(set(re.findall(r"`([a-z0-9_/]+\.py)::(\w+)`", PAGE)))


def test_there_are_twenty_five_checks_in_order():
    assert [row[0].lstrip("| ") for row in ROWS] == [str(number) for number in range(1, 26)]
    assert all(len(row) == 4 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_check_names_a_test_and_what_does_not_hold_says_so(row: list[str]):
    _, _, holds, how = row
    assert "::test_" in how
    assert holds in ("yes", "yes, but", "in part", "no")
    assert ("**Not yet" in how) == (holds in ("in part", "no"))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_named_test_exists(path: str, name: str):
    assert re.search(rf"^(async )?def {name}\(", (ROOT / "tests" / path).read_text(), re.MULTILINE)
