"""The documents' tables equal the code."""

from __future__ import annotations

import argparse
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import yaml

from api.cli import COMMANDS, EPILOG, parser
from api.http import bodies, protocol
from api.http.app import KEEP_ALIVE_TIMEOUT, MAX_HEADER, REQUEST_TIMEOUT
from api.problems import PROBLEMS, SQLSTATES
from api.routes import DESCRIPTION, DOCS, LIVE, METRICS, ROUTES, SCOPES
from api.telemetry.checkpoints import SHOWN
from api.telemetry.log import Log
from api.telemetry.metrics import ASKED, KEPT
from bridge import metrics
from ledger_client import Client, calls
from tests.deploy.prometheus import needs_promtool, promtool
from tests.documents.pages import ROOT, block, page, table

ALERTS = ROOT / "deploy" / "alerts.yml"

FUNCTIONS = """
select
  format('%s(%s)', p.proname, array_to_string(p.proargnames[1:p.pronargs], ', ')),
  coalesce((regexp_match(obj_description(p.oid, 'pg_proc'), 'Raises ([LG0-9, ]+)\\.'))[1], '')
from pg_proc as p
where p.pronamespace = 'ledger'::regnamespace
  and has_function_privilege('ledger_api', p.oid, 'execute')
"""


def names(cell: str) -> list[str]:
    """The names in backquotes of a cell."""
    return re.findall("`([^`]+)`", cell)


def test_every_route_is_documented_with_its_function_and_status():
    documented = [(row[0], row[2].strip("`"), int(row[3][:3])) for row in table("http-api", "Route")]
    routes = [(re.sub("<([a-z_]+)>", r":\1", route.path), route) for route in ROUTES]
    assert documented == [
        (f"{', '.join(route.methods)} {path}", route.function, route.status) for path, route in routes
    ]


def test_every_parameter_of_a_query_is_documented():
    documented = [set(names(row[1])) for row in table("http-api", "Route") if row[0].startswith("GET ")]
    read = [route for route in ROUTES if route.reads]
    assert documented == [
        {argument.name for argument in route.query} | ({"wait"} if route.waits else set()) for route in read
    ]


def test_every_member_of_a_body_is_documented():
    for row, route in zip(table("http-api", "Route"), ROUTES, strict=True):
        assert {argument.name for argument in route.body} <= set(re.findall("[a-z_]+", row[1]))
        assert route.wrapper is None or f'"{route.wrapper}"' in row[1]


def test_every_method_of_the_client_is_documented():
    documented = {row[0].strip("`"): row[1].strip("`") for row in table("client", "Method")}
    methods = [calls.__dict__[function.__name__] for function in calls.__dict__.values() if is_operation(function)]
    shown = {
        f"{method.__name__}({', '.join(inspect.signature(method).parameters)})": answer_of(Client, method.__name__)
        for method in methods
    }
    assert list(documented.items()) == list(shown.items())


def is_operation(function: object) -> bool:
    return inspect.isfunction(function) and function is not calls.page and hasattr(Client, function.__name__)


def answer_of(client: type, name: str) -> str:
    answer = inspect.signature(getattr(client, name)).return_annotation
    return re.sub(r"Iterator\[(\w+)\]", r"an iterator of `\1", answer)


def test_every_page_is_documented():
    text = page("http-api").read_text()
    assert all(f"`GET {path}`" in text for path in ("/", "/api", DESCRIPTION, DOCS))
    assert {f"`GET {path}`" for path in (ROUTES[0].path, LIVE, METRICS)} == {
        row[0] for row in table("observability", "Request")
    }


def test_every_error_is_documented_with_its_status_and_sqlstate():
    documented = [(row[0].strip("`"), int(row[1])) for row in table("http-api", "code")]
    assert documented == [(code, status) for code, (status, _) in PROBLEMS.items()]
    states = {state: row[0].strip("`") for row in table("http-api", "code") for state in re.findall(r"LG\d+", row[2])}
    assert states == {state: code for state, code in SQLSTATES.items() if state.startswith("LG")}


def test_every_sqlstate_is_documented_with_its_name():
    documented = {row[0].strip("`"): row[1] for row in table("sql-api", "SQLSTATE")}
    assert documented == {state: code for state, code in SQLSTATES.items() if state.startswith("LG")}


def test_every_function_is_documented_with_its_parameters_and_refusals(owner: psycopg.Connection):
    documented = {row[0].strip("`"): row[2] for row in table("sql-api", "Function")}
    assert documented == dict(owner.execute(FUNCTIONS).fetchall())


def test_every_function_of_the_bridge_is_documented_with_its_parameters_and_refusals(owner: psycopg.Connection):
    documented = {row[0].strip("`"): row[2] for row in table("sql-api", "Function", 1)}
    of_bridge = dict(owner.execute(FUNCTIONS.replace("ledger_api", "ledger_bridge")).fetchall())
    published = {name for name, _ in owner.execute(FUNCTIONS)}
    assert documented == {name: raises for name, raises in of_bridge.items() if name not in published}
    shared = {name.partition("(")[0] for name in of_bridge if name in published}
    before = page("sql-api").read_text().partition("## The bridge's functions\n")[2].partition("\n\n|")[0]
    assert shared <= set(names(before))


def test_every_function_of_the_owner_exists(owner: psycopg.Connection):
    documented = {row[0].strip("`") for row in table("sql-api", "Function", 2)}
    everything = FUNCTIONS.partition("\n  and has_function")[0]
    others = {
        name
        for role in ("ledger_api", "ledger_bridge")
        for name, _ in owner.execute(FUNCTIONS.replace("ledger_api", role))
    }
    assert documented == {name for name, _ in owner.execute(everything)} - others


def test_every_view_is_documented(owner: psycopg.Connection):
    views = owner.execute(
        """
        select format('ledger.%I', c.relname)
        from pg_class as c
        where c.relnamespace = 'ledger'::regnamespace
          and c.relkind = 'v'
          and has_table_privilege('ledger_reader', c.oid, 'select')
        """
    ).fetchall()
    (row,) = (row for row in table("sql-api", "Role") if row[0] == "`ledger_reader`")
    assert set(names(row[1])) == {name for (name,) in views}


def test_every_table_is_documented(owner: psycopg.Connection):
    found = owner.execute(
        "select c.relname from pg_class as c where c.relnamespace = 'ledger'::regnamespace and c.relkind = 'r'"
    ).fetchall()
    assert {name for row in table("db/README", "Table") for name in names(row[0])} == {name for (name,) in found}


def commands(top: argparse.ArgumentParser, path: str = "ledger") -> Iterator[tuple[str, argparse.Action]]:
    """Each option and argument of each command, with the command's words."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from commands(below, f"{path} {name}")
        elif not isinstance(action, argparse._HelpAction):
            yield path, action


def test_every_command_and_option_is_documented():
    rows = table("configuration", "Command")
    assert [row[0].split()[1].strip("`") for row in rows] == list(COMMANDS)
    usages = [usage for row in rows for usage in names(row[0])]
    for command, action in commands(parser()):
        if command == "ledger":
            assert f"`{action.option_strings[-1]}`" in page("configuration").read_text()
            continue
        (usage,) = (usage for usage in usages if re.match(rf"{command}(?![\w-]| [a-z])", usage))
        name = action.option_strings[-1] if action.option_strings else action.metavar
        assert re.search(rf"(?<![\w-]){re.escape(str(name))}(?![\w-])", usage), (command, name)
    # And nothing else.
    known = {option for _, action in commands(parser()) for option in action.option_strings}
    assert {option for usage in usages for option in re.findall(r"--[a-z-]+", usage)} <= known


def test_every_setting_is_documented_with_its_option_and_default():
    documented = {
        row[0].strip("`"): (row[1].strip("`"), row[2].strip("`")) for row in table("configuration", "Variable")
    }
    assert set(documented) == {name for line in EPILOG.splitlines() for name in re.findall("[A-Z_]+", line[:20])}
    options = {
        action.option_strings[-1]: action.default for command, action in commands(parser()) if command == "ledger serve"
    }
    assert {option for option, _ in documented.values() if option} == set(options) - {"--insecure"}
    defaults = {option: default for option, default in documented.values() if option}
    assert defaults == {option: options[option] or "none" for option in defaults}


def test_every_scope_is_documented():
    assert tuple(row[0].strip("`") for row in table("security", "Scope")) == SCOPES[1:]


def test_every_limit_is_documented():
    text = " ".join(page("http-api").read_text().split())
    kib, mib = 1 << 10, 1 << 20
    for sentence in (
        f"must arrive whole within {REQUEST_TIMEOUT} seconds",
        f"the request did not arrive whole within {REQUEST_TIMEOUT} seconds",
        f"must be read within {protocol.ANSWER_TIMEOUT:.0f} seconds",
        f"An idle connection is kept for {KEEP_ALIVE_TIMEOUT} seconds",
        f"{min(route.body_limit for route in ROUTES) // mib} MiB, and {bodies.MAX_MARKS:,} values",
        f"{max(route.body_limit for route in ROUTES) // mib} MiB, and {bodies.MAX_MARKS_OF_LISTS:,} of these",
        f"and {bodies.MAX_LINE:,} characters in one line",
        f"requests larger than {bodies.WEIGHTY // kib} KiB, each worker | {bodies.WEIGHTY_CALLS} are",
        f"connections, each worker | {protocol.MAX_CONNECTIONS:,} |",
        f"incomplete requests, each worker | {protocol.MAX_UNFINISHED // mib} MiB |",
        f"answers that clients have not read, each worker | {protocol.MAX_UNREAD // mib} MiB |",
        f"the request's header is larger than {MAX_HEADER // kib} KiB",
    ):
        assert sentence in text


def test_every_metric_is_documented_as_it_is_reported():
    documented = [(row[0].strip("`"), row[1], row[2], row[3]) for row in table("observability", "Metric")]
    reported = [(metric.name, metric.kind, ", ".join(metric.labels), metric.meaning) for metric in (*KEPT, *ASKED)]
    assert documented == reported


def test_every_metric_of_checkpoints_is_documented_as_it_is_reported():
    documented = [(row[0].strip("`"), row[1], row[2], row[3]) for row in table("observability", "Metric", 1)]
    assert documented == [(metric.name, metric.kind, ", ".join(metric.labels), metric.meaning) for metric in SHOWN]


def test_every_metric_of_the_bridge_is_documented_as_it_is_reported():
    documented = [(row[0].strip("`"), row[1], row[2], row[3]) for row in table("observability", "Metric", 2)]
    reported = [(metric.name, metric.kind, ", ".join(metric.labels), metric.meaning) for metric in metrics.SHOWN]
    assert documented == reported


def test_every_alert_is_documented_with_its_metric():
    groups = {group["name"]: group["rules"] for group in yaml.safe_load(ALERTS.read_text())["groups"]}
    documented = {name: names(row[1]) for row in table("observability", "Alert") for name in names(row[0])}
    assert [*documented] == [rule["alert"] for rule in groups.pop("ledger")]
    pages = {"ledger checkpoints": "operations", "ledger bridge": "bridge", "ledger guardian": "guardian"}
    assert [*pages] == [*groups]
    for name, where in pages.items():
        assert f"group `{name}` of [deploy/alerts.yml]" in " ".join(page(where).read_text().split())


@needs_promtool
def test_prometheus_accepts_the_documented_configuration(tmp_path: Path):
    text = block("observability", "yaml", "scrape_configs").replace("/etc/prometheus/alerts.yml", str(ALERTS))
    (tmp_path / "prometheus.yml").write_text(text)
    assert " rules found" in promtool("check", "config", tmp_path / "prometheus.yml")


def test_the_documented_log_line_equals_a_written_one():
    shown = block("observability", "json", '"request_id"')
    example = json.loads(shown)
    log = Log(example["worker"], True, 0, lambda lines: None)
    kind = tuple(example[name] for name in ("route", "method", "status", "code", "sqlstate"))
    caller = (example[name] for name in ("request_id", "backend_pid", "batch", "principal"))
    line = log.line((0.0, *caller, kind, example["milliseconds"] / 1000))
    assert line.decode()[len('{"time":"') + 24 :] == shown[len('{"time":"') + 24 :]


def test_every_figure_is_in_the_appendix():
    rows = {row[0]: row[1:] for row in table("performance", "a second, unless it says otherwise")}
    (figure,) = re.findall(r"([\d,]+) transfers a second over HTTP at 64", page("README").read_text())
    assert rows["HTTP transfer, 64 connections"][0] == figure
    short = page("performance").read_text().partition("**In short.**")[2].partition("##")[0]
    for name in (
        "HTTP transfer, 64 connections",
        "HTTP transfer, 256 connections",
        "HTTP transfer, 64 connections, from one",
        "transfer_all of 10,000 over HTTP, lines",
        "HTTP GET participant, 64 connections",
        "pgbench tpcb-like, 16 clients",
    ):
        assert rows[name][0] in short
