"""Every alert says what to do, and asks for series that the code exports."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from covey_operator.metrics import Metrics
from test_dashboards import VALIDATOR, exported, parsed, selectors

ROOT = Path(__file__).parents[3]
ALERTS = yaml.safe_load((ROOT / "charts" / "covey" / "alerts" / "covey.yaml").read_text())


def rules() -> Iterator[Any]:
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield pytest.param(rule, id=rule["alert"])


@pytest.mark.parametrize("rule", list(rules()))
def test_every_alert_asks_for_series_that_are_exported(rule: dict[str, Any]):
    names = set(selectors(parsed(rule["expr"])))
    assert names
    assert names <= exported(Metrics().registry) | VALIDATOR


@pytest.mark.parametrize("rule", list(rules()))
def test_every_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]):
    assert rule["alert"].startswith("Covey")
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")
    pages = [word for word in rule["annotations"]["description"].split() if word.startswith("docs/")]
    for page in pages:
        assert (ROOT / page.rstrip(",;.").removesuffix(".md")).with_suffix(".md").exists()


@pytest.mark.parametrize("rule", list(rules()))
def test_every_alert_has_its_own_section_in_the_runbooks(rule: dict[str, Any]):
    page, _, section = rule["annotations"]["runbook"].partition("#")
    headings = [line.removeprefix("## ") for line in (ROOT / page).read_text().splitlines() if line.startswith("## ")]
    assert section == rule["alert"].lower()
    assert rule["alert"] in headings


def test_alerts_have_names_of_their_own():
    names = [parameter.values[0]["alert"] for parameter in rules()]
    assert len(names) == len(set(names))
