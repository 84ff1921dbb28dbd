"""deploy/alerts.yml: each rule is about metrics that exist, and fires when it should and not before."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.prometheus import needs_promtool, promtool, unknown
from tests.running.commands import ROOT

ALERTS = ROOT / "deploy" / "alerts.yml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
}
SERVICE = '{job="ledger",instance="a"}'


@dataclass(frozen=True)
class Case:
    """Samples, one a minute from the time 0 on: with which an alert fires at a moment, and with which it does not."""

    fires: dict[str, str]
    quiet: dict[str, str]
    at: str
    labels: dict[str, str] = field(default_factory=dict)


def gauge(alert: str, name: str, at: str, over: float, under: float, **labels: str) -> tuple[str, Case]:
    """An alert about a value that is constant."""
    series = name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
    return alert, Case({series: f"{over}x1500"}, {series: f"{under}x1500"}, at, labels)


def counter(alert: str, name: str, at: str, **labels: str) -> tuple[str, Case]:
    """An alert about a count that has grown by one five minutes before, and of which there were some."""
    series = name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
    return alert, Case({series: "3x5 4x200"}, {series: "4x200"}, at, labels)


ANSWERED = 'ledger_requests_total{job="ledger",instance="a",status="200"}'
BUSY = 'ledger_problems_total{job="ledger",instance="a",code="busy"}'
AWAY = 'ledger_problems_total{job="ledger",instance="a",code="unavailable"}'
STARTS = f"ledger_worker_starts_total{SERVICE}"
HALTED = 'ledger_bridge_halted{reason="chain_ahead"}'

CASES = dict(
    [
        ("LedgerMissing", Case({STARTS: "_x10"}, {STARTS: "1x10"}, "2m")),
        gauge("LedgerDatabaseDown", "ledger_database_up", "2m", 0, 1, instance="a"),
        counter("LedgerInternalError", "ledger_problems_total", "10m", code="internal_error"),
        counter("LedgerOutcomeUnknown", "ledger_problems_total", "10m", code="outcome_unknown"),
        (
            "LedgerBusy",
            Case(
                {ANSWERED: "0+1000x20", BUSY: "0+6x20", AWAY: "0+6x20"},
                {ANSWERED: "0+1000x20", BUSY: "0+5x20", AWAY: "0+4x20"},
                "10m",
                {"job": "ledger", "instance": "a"},
            ),
        ),
        gauge("LedgerFeedLags", "ledger_feed_lag_seconds", "0m", 61, 60),
        (
            "LedgerWorkerDied",
            Case({STARTS: "2x5 3x10"}, {STARTS: "5x5 1 2x10"}, "10m", {"job": "ledger", "instance": "a"}),
        ),
        gauge("LedgerPoolFull", "ledger_pool_waiting", "1m", 1, 0, pool="call"),
        counter("LedgerLogLinesDropped", "ledger_log_lines_dropped_total", "10m"),
        gauge("LedgerCheckpointOld", "ledger_checkpoint_covered_timestamp_seconds", "3h1m", 0, 60, group="7"),
        counter("LedgerCheckpointFails", "ledger_checkpoint_failures_total", "3h"),
        gauge("LedgerCheckpointsMissing", "ledger_checkpoint_round_timestamp_seconds", "4h1m", 0, 3660),
        ("LedgerBridgeHalted", Case({HALTED: "1"}, {HALTED: "0"}, "0m", {"reason": "chain_ahead"})),
        gauge("LedgerBridgeMissing", "ledger_bridge_round_timestamp_seconds", "21m", 0, 360),
        gauge("LedgerBridgeLags", "ledger_bridge_followed_timestamp_seconds", "61m", 0, 60),
        gauge("LedgerBridgeSilent", "ledger_bridge_silence_timestamp_seconds", "1m", 604859, 604860, group="7"),
        gauge("LedgerBridgeRequestOpen", "ledger_bridge_open_requests", "24h", 1, 0),
        gauge("LedgerBridgeKeyEmpty", "ledger_bridge_balance_ether", "0m", 0.09, 0.1, key="payer"),
        gauge("LedgerBridgeFeesTooHigh", "ledger_bridge_at_fee_ceiling", "1h", 1, 0),
        counter("LedgerGuardianVeto", "ledger_guardian_roots_total", "10m", outcome="withheld"),
        gauge("LedgerGuardianUnchecked", "ledger_guardian_roots_unchecked_total", "0m", 1, 0),
        gauge("LedgerGuardianMissing", "ledger_guardian_round_timestamp_seconds", "16m", 0, 360),
        gauge("LedgerGuardianNodeBehind", "ledger_guardian_head_timestamp_seconds", "11m", 0, 360),
        gauge("LedgerGuardianUndecided", "ledger_guardian_roots_pending", "1h", 1, 0),
        gauge("LedgerGuardianBalance", "ledger_guardian_balance_ether", "0m", 0.04, 0.05),
    ]
)


def promtool_test(name: str, series: dict[str, str], at: str, fired: list[dict[str, str]]) -> dict[str, object]:
    """A test as promtool reads it."""
    rule = RULES[name]
    expected = [{"exp_labels": rule["labels"] | labels, "exp_annotations": rule["annotations"]} for labels in fired]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": expected}],
    }


def test_every_rule_reads_metrics_that_exist_and_says_what_is_wrong() -> None:
    assert {name: unknown(rule["expr"]) for name, rule in RULES.items() if unknown(rule["expr"])} == {}
    assert {rule["labels"]["severity"] for rule in RULES.values()} == {"critical", "warning"}
    summaries = [rule["annotations"]["summary"] for rule in RULES.values()]
    assert len(set(summaries)) == len(RULES) == len(CASES)


@needs_promtool
def test_prometheus_accepts_the_rules() -> None:
    assert f"{len(RULES)} rules found" in promtool("check", "rules", ALERTS)


@needs_promtool
@pytest.mark.parametrize("fired", [True, False], ids=["fires", "quiet"])
def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path, fired: bool) -> None:
    assert list(CASES) == list(RULES)
    # A day is looked at in steps of an hour. JSON is YAML.
    for step in ("1m", "1h"):
        tests = [
            promtool_test(name, case.fires if fired else case.quiet, case.at, [case.labels] if fired else [])
            for name, case in CASES.items()
            if (case.at == "24h") == (step == "1h")
        ]
        document = {"rule_files": [str(ALERTS)], "evaluation_interval": step, "tests": tests}
        (tmp_path / f"{step}.yml").write_text(json.dumps(document))
    promtool("test", "rules", tmp_path / "1m.yml", tmp_path / "1h.yml")
