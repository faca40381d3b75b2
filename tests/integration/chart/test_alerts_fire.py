"""The alerts over series of samples, as Prometheus itself evaluates them."""

import subprocess
from pathlib import Path

import yaml
from covey_dev import golang

CASES = Path(__file__).parent / "alerts.test.yaml"
RULES = Path(__file__).parents[3] / "charts/covey/alerts/covey.yaml"


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([golang.promtool(), *arguments], capture_output=True, text=True)


def test_prometheus_accepts_the_rules():
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_only_then():
    done = promtool("test", "rules", CASES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_asks_for_something_else_is_noticed(tmp_path: Path):
    """promtool does evaluate: a rule with another threshold fails the same cases."""
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        RULES.read_text().replace("covey_validator_stake_held_ratio > 0.01", "covey_validator_stake_held_ratio > 0.5")
    )
    cases = tmp_path / "cases.yaml"
    cases.write_text(CASES.read_text().replace("../../../charts/covey/alerts/covey.yaml", str(rules)))
    done = promtool("test", "rules", cases)
    assert done.returncode == 1
    assert "CoveyStakeHeld" in done.stdout + done.stderr


def test_every_alert_fires_in_some_case():
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    text = CASES.read_text()
    cases = yaml.safe_load(text)["tests"]
    fired = {name for name in alerts for case in cases if f'alertname="{name}"' in str(case.get("promql_expr_test"))}
    fired |= {test["alertname"] for case in cases for test in case.get("alert_rule_test", []) if test["exp_alerts"]}
    assert fired == alerts
