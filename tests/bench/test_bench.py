"""make bench on a small scale: it measures every line of its table, and checks the books after killing a server."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from api.resources import EXPLORER
from bench import __main__ as bench
from bench import explorer, large, load, measures, report
from bench.ledgers import served, workspace
from bench.load import BenchError, Group, Server, request, send
from bench.measures import TARGETS, Target
from tests.openapi import browser

SMALL = bench.Size(rounds=1, seconds=1, participants=200, small_groups=10, leaves=6_000, scale=1, few=1_000, many=2_000)


def test_every_line_of_the_table_is_measured(monkeypatch):
    # tests/running/test_hostile_clients.py has them all.
    monkeypatch.setattr(measures, "ATTACKS", dict(list(measures.ATTACKS.items())[:1]))
    with workspace() as folder:
        rounds = bench.measure(SMALL, folder / "measured")
    assert [target.text for target in TARGETS if not report.ratios(target, rounds)] == []
    table = report.targets_table(TARGETS, rounds, None)
    assert [target.text for target in TARGETS if target.text not in table] == []
    assert [name for figures in rounds for name, figure in figures.items() if figure <= 0] == []


def test_the_full_bench_measures_a_large_ledger_beside_a_fresh_one(monkeypatch):
    monkeypatch.setattr(large, "WARM_UP", 1)
    monkeypatch.setattr(large, "KEYS", 1_000)
    stored = large.Stored(participants=1_000, entries=21_000, keys=2_000, fresh=200)
    with workspace() as folder:
        rounds = large.measure_large(stored, folder, rounds=1, seconds=1)
    targets = (*large.TARGETS, *(explorer.TARGETS if browser.CHROMIUM else ()))
    assert [target.text for target in targets if not report.ratios(target, rounds)] == []


@pytest.mark.skipif(browser.CHROMIUM is None, reason="needs a browser: apt-get install chromium")
def test_the_explorers_first_page_is_whole_when_it_is_measured(monkeypatch):
    monkeypatch.setattr(explorer, "VISITS", 1)
    with workspace() as folder, served(folder / "explorer") as ledger:
        figures = explorer.measure_first_page(ledger, ledger.fill_one("explorer", 100))
        files = [file for file in EXPLORER.iterdir() if file.suffix in (".html", ".js", ".css")]
        compressed = sum(len(gzip.compress(file.read_bytes())) for file in files)
        assert compressed < figures[explorer.BYTES] < 10 * compressed
        assert 0 < figures[explorer.PAINT] <= figures[explorer.SHOWN]


def test_without_a_browser_the_explorer_is_left_out(monkeypatch):
    monkeypatch.setattr(browser, "CHROMIUM", None)
    assert explorer.measure_first_page(None, None) == {}


def test_loses_nothing_when_the_database_is_killed_under_load():
    with workspace() as folder:
        assert "`ledger verify` found nothing" in bench.kill_under_load(folder / "killed")


ONE = Target("one", "a", "b", 2)
ANOTHER = Target("another", "b", "a", 1, at_most=True)
ROUNDS = [{"a": 4.0, "b": 1.0}, {"a": 1.0, "b": 1.0}, {"a": 9.0, "b": 3.0}, {"c": 7.0}]


def test_a_round_without_both_figures_has_no_ratio():
    assert report.ratios(ONE, ROUNDS) == [4, 1, 3]
    assert report.ratios(ONE, [{"c": 7.0}]) == []


def test_the_tables_show_the_results_and_those_of_the_earlier_run():
    before = [{"a": 2.0, "b": 2.0}]
    assert cells(report.targets_table([ONE, ANOTHER], ROUNDS, before)) == [
        ["one", "3.00", "1.00", "4.00", "2", "yes", "1.00"],
        ["another", "0.33", "0.25", "1.00", "at most 1", "yes", "1.00"],
    ]
    assert cells(report.targets_table([ONE], before, None)) == [["one", "1.00", "1.00", "1.00", "2", "no"]]
    assert cells(report.figures_table(ROUNDS, before)) == [
        ["a", "4", "1", "9", "2", "2.00"],
        ["b", "1", "1", "3", "2", "0.50"],
        ["c", "7", "7", "7", "", ""],
    ]


def test_how_quiet_the_machine_is_is_shown():
    host = report.Host()
    assert re.search(r"\d+ % idle, \d+ % taken by the host", report.machine())
    assert re.match(r"\d+\.\d% of", str(host))


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_results_are_kept_for_a_later_run(tmp_path):
    report.save(tmp_path / "bench.json", "a machine", ROUNDS)
    assert report.load(tmp_path / "bench.json") == ROUNDS
    assert json.loads((tmp_path / "bench.json").read_text())["machine"] == "a machine"


class Answers(BaseHTTPRequestHandler):
    """A server that refuses /refused, and requests without the API key."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        let_in = self.headers["Authorization"] == "Bearer ledger_1_0"
        self.send_response(503 if self.path == "/refused" or not let_in else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as answering:
        thread = threading.Thread(target=answering.serve_forever)
        thread.start()
        yield Server(answering.server_port, "ledger_1_0")
        answering.shutdown()
        thread.join()


@pytest.mark.parametrize("wrk", [pytest.param(load.WRK, id="wrk if it is here"), pytest.param(None, id="event loop")])
@pytest.mark.parametrize("rate", [0, 100], ids=["closed", "open"])
def test_a_load_with_failures_is_refused(server, monkeypatch, wrk, rate):
    monkeypatch.setattr(load, "WRK", wrk)
    outcome = send(server, [request("GET", "/")] * 3, 4, 1, rate)
    assert outcome.rate > 0
    assert 0 < outcome.p50 <= outcome.p99 <= outcome.p999
    with pytest.raises(BenchError):
        send(server, [request("GET", "/"), request("GET", "/refused")], 4, 1, rate)


def test_a_load_that_repeats_its_requests_is_refused_where_it_must_not(server):
    with pytest.raises(BenchError):
        send(server, [request("GET", "/")] * 2, 4, 1, once=True)


def test_requests_carry_the_api_key(server):
    with pytest.raises(BenchError):
        send(Server(server.port), [request("GET", "/")], 4, 1)


def test_pgbench_gets_the_ids_of_the_participants():
    groups = [Group(7, 101, 200), Group(8, 201, 300)]
    script = measures.calling_transfer(groups, one=False)
    assert "7 + :number" in script
    assert "101 + :number * 100" in script
    with pytest.raises(BenchError):
        measures.calling_transfer([Group(7, 101, 200), Group(8, 202, 301)], one=False)
