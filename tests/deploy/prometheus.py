"""The series that the ledger's processes write, those that an expression reads, and Prometheus' own tool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from api.telemetry.checkpoints import CheckpointMetrics
from api.telemetry.metrics import ASKED, KEPT, PLACES, Metrics, share
from bridge.guardian_metrics import GuardianMetrics
from bridge.metrics import BridgeMetrics

# Labels and series that Prometheus itself adds.
OF_PROMETHEUS = {"job", "instance"}
SELECTOR = re.compile(r"\b(ledger_\w+)(?:\{([^}]*)\})?")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Prometheus' judgement needs promtool: apt-get install prometheus"
)


def scraped() -> str:
    """What a service answers to a scrape once every metric has a value."""
    descriptor = share(1)
    try:
        metrics = Metrics(descriptor, 0)
    finally:
        os.close(descriptor)
    for metric in KEPT:
        for labels in PLACES[metric]:
            if metric.kind == "histogram":
                metrics.observe(metric, *labels, number=1)
            else:
                metrics.add(metric, *labels)
    return metrics.text(dict.fromkeys(ASKED, 1.0)).decode()


def collected() -> str:
    """What the commands with metrics of their own write for node exporter's textfile collector."""
    text = ""
    for collector in (
        CheckpointMetrics(covered=[(1.0, 1)]),
        BridgeMetrics(roots={1: 1}, silent={1: 1}, balances={"payer": 1}),
        GuardianMetrics(),
    ):
        registry = CollectorRegistry(auto_describe=False)
        registry.register(collector)
        text += generate_latest(registry).decode()
    return text


@cache
def reported() -> dict[str, dict[str, set[str]]]:
    """The values of each label of each series that the ledger writes."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(scraped() + collected()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def unknown(expression: str) -> list[str]:
    """What an expression reads that the ledger does not write: series, labels, and values of labels."""
    series, wrong = reported(), []
    read = SELECTOR.findall(expression)
    if not read:
        wrong.append(f"no series: {expression}")
    for name, matchers in read:
        if name not in series:
            wrong.append(name)
            continue
        for label, operator, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers):
            if label in OF_PROMETHEUS or value.startswith("$"):
                continue
            wanted = value.split("|") if "~" in operator else [value]
            known = series[name].get(label)
            if known is None or not all(any(re.fullmatch(one, other) for other in known) for one in wanted):
                wrong.append(f"{name}{{{label}}} {value}")
    grouped = {label for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(", ")}
    known = {label for name, _ in read for label in series.get(name, {})} | OF_PROMETHEUS
    return wrong + sorted(grouped - known)


def promtool(*arguments: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
