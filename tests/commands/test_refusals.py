"""What a command does that is refused, or that no service answers: its exit status, and one line that says why."""

from __future__ import annotations

import http.client
import json
import re
import select
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg
import pytest

from api.admin import api_keys
from tests.commands.conftest import Group, Run
from tests.http.client import Service
from tests.running.commands import LEDGER, environment, free_port
from tests.running.commands import serving as serving_on
from tests.support import balance, until

Fate = str  # of a request: pass it on, lose its answer (504), cut the connection after it, or say that it is busy


@contextmanager
def between(service: Service, fate: Callable[[int], Fate]) -> Iterator[str]:
    """Listen between a command and the service; the fate of a write depends on how many came before it."""
    writes: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.forward("pass")

        def do_POST(self) -> None:
            writes.append(self.headers["Idempotency-Key"])
            self.forward(fate(len(writes) - 1))

        def do_DELETE(self) -> None:
            self.do_POST()

        def forward(self, how: Fate) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer: tuple[int, bytes] = (503, PROBLEM % (b"busy", 503))
            headers = {}
            if how != "busy":
                upstream = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
                given = {name: value for name, value in self.headers.items() if name != "Host"}
                upstream.request(self.command, self.path, body or None, given)
                response = upstream.getresponse()
                answer = (response.status, response.read())
                headers = {
                    name: value for name, value in response.headers.items() if name.startswith(("Ledger", "Idemp"))
                }
                upstream.close()
            if how == "lose":
                answer = (504, PROBLEM % (b"outcome_unknown", 504))
            if how == "cut":
                self.close_connection = True
                return
            self.send_response(answer[0])
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
    assert len(set(writes)) == 1, "every attempt has the same idempotency key"


PROBLEM = b'{"type":"","title":"t","status":0,"detail":"it was lost","code":"%s","errors":{"detail":"%d"}}'


def refused(result: subprocess.CompletedProcess[str], status: int) -> str:
    """The line of a command that was refused, without the idempotency key before it."""
    assert (result.returncode, result.stdout) == (status, ""), result
    *before, line = result.stderr.splitlines()
    assert [text for text in before if not text.startswith("ledger: idempotency key ")] == []
    assert line.startswith("ledger: ")
    return line.removeprefix("ledger: ")


@pytest.fixture
def observer(service: Service) -> Iterator[psycopg.Connection]:
    with service.database.connect() as connection:
        yield connection


# by the service


def test_each_kind_of_refusal_has_its_exit_status(ledger: Run, group: Group) -> None:
    pay = ("transfer", group.id, "--from", "bob", "--to", "alice")
    assert refused(ledger(*pay, 0), 3) == "invalid_value: amount must be at least 1"
    assert refused(ledger(*pay, 2**256), 3).startswith("invalid_value: ")
    assert refused(ledger("group", "show", 2**62), 4) == f"not_found: no group {2**62}"
    assert refused(ledger("group", "create", group.name), 5).startswith("already_taken: ")
    assert refused(ledger("group", "remove", group.name), 5).startswith("group_not_empty: ")
    assert refused(ledger(*pay, 101), 6) == (
        f"insufficient_funds: participant {group.bob} has 100, cannot send 101; amount exceeds the balance of 100"
    )


@pytest.mark.parametrize(
    "words",
    [
        ["transfer", "1", "1.5", "--from", "1", "--to", "2"],
        ["transfer", "1", "-5", "--from", "1", "--to", "2"],
        ["transfer", "1", "5", "--from", "1"],
        ["deposit", "1", "1", "1" * 79],
        ["deposit", "1", "1", "1", "--metadata", "[]"],
        ["deposit", "1", "1", "1", "--metadata", '{"a": 1, "a": 2}'],
        ["deposit", "1", "1", "1", "--metadata", '{"a": 1e999}'],
        ["deposit", "1", "1", "1", "--idempotency-key", "a\nb"],
        ["statement", "1", "1", "--from", "2026-11-01T00:00:00"],
        ["group", "list", "--limit", "0"],
        ["group", "list", "--url", "ftp://127.0.0.1"],
        ["watch", "--after", "x"],
    ],
)
def test_a_command_line_that_is_not_valid_sends_nothing(words: list[str], ledger: Run) -> None:
    result = ledger(*words)
    assert (result.returncode, result.stdout) == (2, "")


# by nobody


def test_a_service_that_is_away_is_named_without_a_password(ledger: Run) -> None:
    port = free_port()
    result = ledger("deposit", 1, 1, 1, "--url", f"http://user:secret@127.0.0.1:{port}")
    assert refused(result, 8).startswith(f"no answer from 127.0.0.1:{port}: ")


def test_an_answer_that_is_not_the_ledgers_is_an_error(ledger: Run, service: Service) -> None:
    line = refused(ledger("group", "list", "--url", f"http://127.0.0.1:{service.port}/nowhere"), 4)
    assert line.startswith("not_found: ")
    line = refused(ledger("group", "list", "--url", f"http://127.0.0.1:{service.port}/metrics?"), 1)
    assert line.startswith(f"127.0.0.1:{service.port} does not answer as a ledger does: 200: ")


@pytest.mark.parametrize("fate", ["lose", "cut", "busy"])
def test_a_command_whose_answer_is_lost_is_repeated_and_done_once(
    fate: Fate, ledger: Run, service: Service, group: Group, observer: psycopg.Connection
) -> None:
    with between(service, lambda number: "pass" if number else fate) as url:
        result = ledger("transfer", group.id, 30, "--from", "bob", "--to", "alice", "--url", url, "--json")
    assert result.returncode == 0, result.stderr
    assert ('"replayed":true' in result.stdout) == (fate != "busy")
    assert balance(observer, group.id, group.alice) == 130


def test_a_command_whose_outcome_stays_unknown_prints_the_one_that_finds_out(
    ledger: Run, service: Service, group: Group, observer: psycopg.Connection
) -> None:
    with between(service, lambda number: "lose") as url:
        words = ("exit", group.name, "bob", "--metadata", '{"why": "it\'s late"}', "--url", url)
        line = refused(ledger(*words), 9)
    again = line.partition("it may have been done, repeat it with: ")[2].replace(url, service_of_tests(service))
    program, *repeated = shlex.split(again)
    assert program == "ledger"
    assert repeated[-2:] == [str(group.id), str(group.bob)]
    assert '"replayed":true' in ledger(*repeated, "--json").stdout
    assert len(service("GET", f"{group.path}/entries?kind=exit").data) == 1


def service_of_tests(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


def test_a_list_ends_quietly_when_its_reader_ends(service: Service, group: Group) -> None:
    settings = environment(LEDGER_URL=service_of_tests(service))
    words = [LEDGER, "watch", "--json"]
    with subprocess.Popen(words, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith("{")
        process.stdout.close()
        service("POST", f"{group.path}/participants/{group.alice}/deposits", {"amount": 1})
        assert (process.wait(60), process.stderr.read()) == (141, "")


# the feed


def test_watch_goes_on_after_a_restart_and_ends_with_its_cursor(ledger: Run, service: Service, group: Group) -> None:
    settings = {"DATABASE_URL": service.database.url(service.database.service), "PORT": str(free_port())}
    url = f"http://127.0.0.1:{settings['PORT']}"
    watching = [LEDGER, "watch", "--group", group.name, "--url", url]
    with serving_on("serve", **settings):
        process = subprocess.Popen(
            watching, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(f"join 100 to {group.alice}\n")
        assert process.stdout.readline().endswith(f"join 100 to {group.bob}\n")
    assert process.stderr.readline().endswith("trying again until it answers\n")
    moved = service("POST", f"{group.path}/participants/{group.bob}/deposits", {"amount": 7})
    with serving_on("serve", **settings):
        assert process.stdout.readline().endswith(f"entry {moved.headers['Ledger-Entry']}: deposit 7 to {group.bob}\n")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    cursor = re.fullmatch("ledger: go on with --after (.*)\n", process.stderr.read())
    process.stdout.close()
    process.stderr.close()
    assert cursor
    assert ledger("watch", "--once", "--after", cursor[1]).stdout == ""


def test_each_line_of_watch_has_the_cursor_after_it(ledger: Run, group: Group) -> None:
    whole = ledger("watch", "--once", "--json").stdout.splitlines()
    assert len(whole) > 3
    for place in (0, len(whole) - 3):
        (cursor,) = re.findall('"cursor":"([^"]+)"', whole[place])
        rest = ledger("watch", "--once", "--json", "--after", cursor).stdout.splitlines()
        stripped = [[re.sub(',"cursor":.*', "", line) for line in given] for given in (rest, whole[place + 1 :])]
        assert stripped[0] == stripped[1]


def test_watch_can_begin_at_the_end(ledger: Run, service: Service, group: Group) -> None:
    deposits = f"{group.path}/participants/{group.bob}/deposits"
    before = service("POST", deposits, {"amount": 7}).headers["Ledger-Entry"]
    until(lambda: f'"id":{before},' in ledger("watch", "--once", "--json").stdout, "the deposit in the feed")
    assert ledger("watch", "--new", "--once").stdout == ""
    watching = [LEDGER, "watch", "--new", "--json", "--url", f"http://127.0.0.1:{service.port}"]
    with subprocess.Popen(watching, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None

        def prints() -> bool:
            service("POST", deposits, {"amount": 1})
            return bool(select.select([process.stdout], [], [], 0.1)[0])

        until(prints, "an entry that is made while it watches")
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
    assert (first["id"] > int(before), first["amount"]) == (True, 1)


# by the API key: the last tests, since the service needs one from then on


def test_a_wrong_a_lesser_and_a_revoked_api_key_are_refused(ledger: Run, service: Service, group: Group) -> None:
    with service.database.connect(service.database.admin) as admin:
        reader, secret = api_keys.create(admin, "reader", "read", None)
        _, own = api_keys.create(admin, "one group", "transact", group.id)
        until(lambda: service("GET", "/api/groups").status == 401, "the service to need an API key")
        assert refused(ledger("group", "list"), 7).startswith("unauthorized: ")
        assert refused(ledger("group", "list", LEDGER_KEY="ledger_1_wrong"), 7).startswith("unauthorized: ")
        assert refused(ledger("group", "list", LEDGER_KEY="né\n"), 2) == "LEDGER_KEY is not an API key"
        assert ledger("group", "show", group.name, LEDGER_KEY=secret).returncode == 0
        assert refused(ledger("deposit", group.id, "bob", 1, LEDGER_KEY=secret), 7).startswith("forbidden: ")
        assert ledger("deposit", group.id, "bob", 1, LEDGER_KEY=own).returncode == 0
        assert refused(ledger("deposit", group.name, "bob", 1, LEDGER_KEY=own), 7).startswith("forbidden: ")
        assert ledger("watch", "--once", LEDGER_KEY=secret).returncode == 0
        api_keys.revoke(admin, reader.id)
        until(lambda: ledger("group", "list", LEDGER_KEY=secret).returncode == 7, "the revoked key to be refused")
