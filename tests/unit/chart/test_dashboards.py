"""Every panel says what it shows, and asks for series that the code exports."""

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from covey_api.generated import main
from covey_operator.metrics import Metrics
from prometheus_client import CollectorRegistry

CHARTS = Path(__file__).parents[3] / "charts"
DASHBOARDS = sorted((CHARTS / "covey" / "dashboards").glob("*.json"))
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",), "gauge": ("",)}

# What a validator shows on its status port.
VALIDATOR = {
    "covey_egress_limit_bits_per_second",
    "covey_validator_round",
    "covey_validator_rounds",
    "covey_validator_loss",
    "covey_validator_bytes_sent_total",
    "covey_validator_compression_ratio",
    "covey_validator_peers_connected",
    "covey_validator_reward_tokens",
    "covey_validator_stake_held_ratio",
    "covey_validator_stake_slashed_ratio",
    "covey_validator_round_seconds",
}


def panels() -> Iterator[Any]:
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield pytest.param(panel, id=f"{path.stem}: {panel['title']}")


def expressions() -> Iterator[Any]:
    for parameter in panels():
        for target in parameter.values[0]["targets"]:
            yield pytest.param(target["expr"], id=target["expr"])
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                selector = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"])
                assert selector is not None, variable["query"]
                yield pytest.param(selector[1], id=variable["query"])


def parsed(expression: str) -> Any:
    """The expression as Prometheus sees it: Grafana puts a duration in place of its own variable."""
    return promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def selectors(node: Any) -> Iterator[str]:
    """Names of the metrics in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name
    elif isinstance(node, promql_parser.MatrixSelector):
        yield from selectors(node.vector_selector)
    else:
        for part in ("expr", "lhs", "rhs"):
            if hasattr(node, part):
                yield from selectors(getattr(node, part))
        for argument in getattr(node, "args", []):
            yield from selectors(argument)


def exported(registry: CollectorRegistry) -> set[str]:
    """Names of every series that a registry can show, those without samples yet included."""
    return {family.name + suffix for family in registry.collect() for suffix in SUFFIXES[family.type]}


def test_committed_dashboards_are_what_the_code_says():
    generator = runpy.run_path(str(CHARTS / "generate_dashboards.py"))
    assert main(generator["COMMAND"], generator["files"](), ["--check"]) == 0


@pytest.mark.parametrize("panel", list(panels()))
def test_every_panel_says_what_it_shows(panel: dict[str, Any]):
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    assert all(target["legendFormat"] for target in panel["targets"])
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_expression_asks_for_series_that_are_exported(expression: str):
    names = set(selectors(parsed(expression)))
    assert names
    assert names <= exported(Metrics().registry) | VALIDATOR


def test_everything_that_a_validator_shows_is_on_a_panel():
    drawn = {name for text in expressions() for name in selectors(parsed(text.values[0]))}
    assert drawn >= VALIDATOR


def test_the_names_of_an_expression_are_found_at_any_depth():
    text = "histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m]))) / (time() - b) > bool -c"
    assert set(selectors(promql_parser.parse(text))) == {"a_bucket", "b", "c"}


@pytest.mark.parametrize("expression", [p for p in expressions() if "rate(" in p.values[0]])
def test_rates_follow_the_scrape_interval(expression: str):
    assert "[$__rate_interval]" in expression
