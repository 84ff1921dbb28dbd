"""deploy/grafana.json: each panel asks Prometheus for series that exist, and none of them is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.prometheus import needs_promtool, promtool, reported, unknown
from tests.running.commands import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel, target) for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"] for variable in DASHBOARD["templating"]["list"]}


def test_every_expression_reads_series_that_exist() -> None:
    assert [wrong for _, target in TARGETS for wrong in unknown(target["expr"])] == []
    queries = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert [wrong for query in queries for wrong in unknown(query)] == []


def test_every_metric_is_shown() -> None:
    shown = {re.sub("_(bucket|sum|count)$", "", name) for _, target in TARGETS for name in names(target["expr"])}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in reported()} - shown == set()


def names(expression: str) -> list[str]:
    return re.findall(r"\bledger_\w+", expression)


def test_every_legend_names_labels_that_the_series_have() -> None:
    for panel, target in TARGETS:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        grouped = re.findall(r"\bby \(([^)]*)\)", target["expr"])
        (have,) = (
            {frozenset(reported()[name]) for name in names(target["expr"])}
            if not grouped
            else {frozenset(label for labels in grouped for label in labels.split(", "))}
        )
        assert shown <= have, panel["title"]


def test_panels_have_titles_and_units_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["title"] and panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used == VARIABLES | {"__rate_interval"}


@needs_promtool
def test_prometheus_accepts_every_expression(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": target["expr"].replace("$__rate_interval", "1m")}
        for number, (_, target) in enumerate(TARGETS)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(TARGETS)} rules found" in promtool("check", "rules", tmp_path / "rules.yml")
