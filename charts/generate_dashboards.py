"""Grafana dashboards from code: `python charts/generate_dashboards.py --write|--check`.

The chart ships the JSON; Grafana's sidecar loads it from a ConfigMap. Series of validators carry the labels
`namespace`, `pod` and `task`, which the chart's PodMonitor adds.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from covey_api.generated import main
from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

COMMAND = "python charts/generate_dashboards.py"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT, WIDTH = 8, 8  # of a grid that is 24 wide

TASK = 'namespace=~"$namespace", task=~"$task"'
OBJECT = 'namespace=~"$namespace"'


@dataclass(frozen=True)
class Query:
    """A PromQL expression and how its series are named."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """A graph over time.

    Attributes:
        unit: how Grafana writes the values (an id of `units`).
        decimals: digits behind the point; None lets Grafana choose.
    """

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    decimals: int | None = None


def _of_task(title: str, description: str, unit: str, metric: str, decimals: int | None = None) -> Panel:
    """A gauge of every validator."""
    return Panel(title, description, unit, (Query(f"{metric}{{{TASK}}}", "{{task}}"),), decimals)


ROWS: dict[str, tuple[Panel, ...]] = {
    "Tasks": (
        Panel(
            "Rounds",
            "Rounds that are done, and how many there will be.",
            units.Short,
            (
                Query(f"covey_validator_round{{{TASK}}}", "{{task}} done"),
                Query(f"covey_validator_rounds{{{TASK}}}", "{{task}} of"),
            ),
            decimals=0,
        ),
        _of_task("Loss", "Median holdout loss of the newest model.", units.Short, "covey_validator_loss"),
        _of_task(
            "Duration of a round", "How long the last round took.", units.Seconds, "covey_validator_round_seconds"
        ),
        _of_task(
            "Connected members",
            "Other members of the task that this one is connected with.",
            units.Short,
            "covey_validator_peers_connected",
            decimals=0,
        ),
        Panel(
            "Bytes sent",
            "What leaves this institution: updates, votes and their framing, and the limit that holds at the time.",
            units.BytesPerSecondIEC,
            (
                Query(f"rate(covey_validator_bytes_sent_total{{{TASK}}}[$__rate_interval])", "{{task}}"),
                Query(f"covey_egress_limit_bits_per_second{{{TASK}}} / 8 < Inf", "{{task}}: limit"),
            ),
        ),
        _of_task(
            "Compression ratio",
            "float32 bytes of the updates by their bytes as sent.",
            units.Short,
            "covey_validator_compression_ratio",
            decimals=0,
        ),
        _of_task("Reward", "Reward of this member until now, in tokens.", units.Short, "covey_validator_reward_tokens"),
        Panel(
            "Stake at risk",
            "Part of this member's stake that is held for the quality of its updates, and that was slashed; the "
            "condition GoodStanding says why.",
            units.PercentUnit,
            (
                Query(f"covey_validator_stake_held_ratio{{{TASK}}}", "{{task}} held"),
                Query(f"covey_validator_stake_slashed_ratio{{{TASK}}}", "{{task}} slashed"),
            ),
            decimals=1,
        ),
    ),
    "Subnets and tasks": (
        Panel(
            "Subnets that are Ready",
            "1 where the condition Ready is True; 0 says that `kubectl describe sn` has the reason.",
            units.Short,
            (
                Query(
                    f'covey_operator_status_condition{{kind="Subnet", type="Ready", status="True", {OBJECT}}}',
                    "{{namespace}}/{{name}}",
                ),
            ),
            decimals=0,
        ),
        Panel(
            "Conditions of tasks",
            "How many tasks have a condition that is True, by condition.",
            units.Short,
            (
                Query(
                    f'sum by (type) (covey_operator_status_condition{{kind="FederatedTask", status="True", {OBJECT}}})',
                    "{{type}}",
                ),
            ),
            decimals=0,
        ),
        Panel(
            "Failed tasks",
            "Tasks whose condition Failed is True.",
            units.Short,
            (
                Query(
                    "sum by (namespace, name) (covey_operator_status_condition"
                    f'{{kind="FederatedTask", type="Failed", status="True", {OBJECT}}})',
                    "{{namespace}}/{{name}}",
                ),
            ),
            decimals=0,
        ),
    ),
    "Operator": (
        Panel(
            "Reconcile errors",
            "Passes that failed and are tried again.",
            units.OpsPerSecond,
            (Query("sum by (kind) (rate(covey_operator_reconcile_errors_total[$__rate_interval]))", "{{kind}}"),),
        ),
        Panel(
            "Reconciles",
            "Passes over objects, by kind and result.",
            units.OpsPerSecond,
            (
                Query(
                    "sum by (kind, result) (rate(covey_operator_reconcile_total[$__rate_interval]))",
                    "{{kind}} {{result}}",
                ),
            ),
        ),
        Panel(
            "Duration of a reconcile",
            "99th percentile of a pass over an object; passes that wait for a transaction are long.",
            units.Seconds,
            (
                Query(
                    "histogram_quantile(0.99, sum by (kind, le) "
                    "(rate(covey_operator_reconcile_duration_seconds_bucket[$__rate_interval])))",
                    "{{kind}} p99",
                ),
            ),
        ),
        Panel(
            "Waiting",
            "Objects that are due for a pass.",
            units.Short,
            (Query("covey_operator_queue_depth", "{{pod}}"),),
            decimals=0,
        ),
        Panel(
            "Chain",
            "Time since the operator last read the chain.",
            units.Seconds,
            (Query("time() - covey_operator_chain_last_success_timestamp_seconds", "{{contract}}"),),
        ),
        Panel(
            "Chain errors",
            "Calls to the chain that failed, by kind of error.",
            units.OpsPerSecond,
            (Query("sum by (error) (rate(covey_operator_chain_errors_total[$__rate_interval]))", "{{error}}"),),
        ),
        Panel(
            "Kubernetes API",
            "Requests of the operator to the API server, by verb and status code.",
            units.RequestsPerSecond,
            (
                Query(
                    "sum by (verb, code) (rate(covey_operator_api_requests_total[$__rate_interval]))",
                    "{{verb}} {{code}}",
                ),
            ),
        ),
    ),
}


def build() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("Covey")
        .uid("covey")
        .description("Federated tasks of this member, what they send and earn, and the health of its operator.")
        .tags(["covey"])
        .readonly()
        .timezone("browser")
        .refresh("30s")
        .time("now-3h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").type("prometheus").label("Data source"))
        .with_variable(_variable("namespace", "Namespace", "label_values(covey_operator_status_condition, namespace)"))
        .with_variable(_variable("task", "Task", 'label_values(covey_validator_round{namespace=~"$namespace"}, task)'))
    )
    for title, panels in ROWS.items():
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(_graph(panel))
    text = JSONEncoder(sort_keys=True, indent=2).encode(board.build())
    return json.dumps(_without_nulls(json.loads(text)), indent=2, sort_keys=True) + "\n"


def _variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """A filter with the values of a label; everything at first."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all"))
    )


def _graph(panel: Panel) -> timeseries.Panel:
    graph = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .axis_soft_min(0)
        .height(HEIGHT)
        .span(WIDTH)
        .legend(common.VizLegendOptions().show_legend(True))
    )
    if panel.decimals is not None:
        graph = graph.decimals(panel.decimals)
    for index, query in enumerate(panel.queries):
        graph = graph.with_target(
            prometheus.Dataquery()
            .ref_id(chr(ord("A") + index))
            .datasource(SOURCE)
            .expr(query.expression)
            .legend_format(query.legend)
        )
    return graph


def _without_nulls(value: object) -> object:
    """Leave out what is not set: Grafana's own defaults apply."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def files() -> dict[str, str]:
    """Every generated file: path inside the repository -> text."""
    return {"charts/covey/dashboards/covey.json": build()}


if __name__ == "__main__":
    sys.exit(main(COMMAND, files()))
