"""The log: a line for each request, for any client and any reader."""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg
import pytest

from api.telemetry import log, metrics
from api.telemetry.log import ErrorLogHandler, LineWriter, Log
from tests.conftest import janitor
from tests.running.commands import LEDGER, PATIENCE, Service, environment, free_port, serving
from tests.running.test_metrics import scraped
from tests.running.test_stop import transfer_in_hand
from tests.support import Database, create, join, one, until

MEMBERS = [
    *("time", "request_id", "worker", "backend_pid", "batch", "principal"),
    *("milliseconds", "route", "method", "status", "code", "sqlstate"),
]


def lines(service: Service) -> list[dict]:
    """Stop the service, and return its log lines that were not read yet."""
    assert service.stop() == 0
    assert service.process.stdout is not None
    return [json.loads(line) for line in service.process.stdout.read().splitlines()]


def ask(
    service: Service, method: str, path: str, body: object = None, headers: dict | None = None
) -> tuple[int, str, bytes]:
    """The status, the request id and the body of an answer."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=PATIENCE)
    try:
        given = {"Content-Type": "application/json"} | (headers or {})
        connection.request(method, path, None if body is None else json.dumps(body), given)
        answer = connection.getresponse()
        return answer.status, answer.headers["X-Request-ID"], answer.read()
    finally:
        connection.close()


# A line's members


def test_a_request_has_a_line(database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service)) as service:
        began = time.time()
        assert ask(service, "POST", "/api/groups", {"name": "ETH"}, {"X-Request-ID": "Order.17_a-b"})[:2] == (
            201,
            "Order.17_a-b",
        )
        status, given, _ = ask(service, "GET", "/api/groups/1/participants/1?at=1")
        first, second = lines(service)
    assert list(first) == list(second) == MEMBERS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert first["time"][:10] == time.strftime("%Y-%m-%d", time.gmtime(began))
    assert 0 < first["milliseconds"] < PATIENCE * 1000
    assert first["backend_pid"] > 0
    values = {name: first[name] for name in ("request_id", "worker", "batch", "principal", "route", "method", "status")}
    assert values == {
        "request_id": "Order.17_a-b",
        "worker": 0,
        "batch": None,
        "principal": None,
        "route": "/api/groups",
        "method": "POST",
        "status": 201,
    }
    assert (second["status"], second["code"], second["sqlstate"]) == (status, "not_found", "LG002")
    assert second["request_id"] == given


def test_a_line_names_the_requests_api_key(database: Database) -> None:
    with database.connect(database.admin) as admin:
        (secret,) = one(admin, "select secret from ledger.create_api_key('büro', 'read')")
    with serving(DATABASE_URL=database.url(database.service)) as service:
        bearer = {"Authorization": f"Bearer {secret}"}
        assert ask(service, "GET", "/api/groups", headers=bearer)[0] == 200
        assert ask(service, "POST", "/api/groups", {"name": "ETH"}, bearer)[0] == 403
        assert ask(service, "GET", "/api/groups", headers={"Authorization": f"Bearer {secret}0"})[0] == 401
        logged = [(line["principal"], line["code"]) for line in lines(service)]
    assert logged == [("1 büro", None), ("1 büro", "forbidden"), (None, "unauthorized")]


@pytest.mark.parametrize(
    "hostile", ["", "a b", "x" * 65, 'a"b', "a\tb", "é", "a\\nb", "a/b", "{}", "a\r\n b", "null\x00", "٣"]
)
def test_a_harmful_request_id_is_replaced(hostile: str, watched: Service) -> None:
    with_it = f"GET /api/groups HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-ID: {hostile}\r\n\r\n"
    answer = raw(watched, with_it.encode())
    (given,) = re.findall(r"(?i)^x-request-id: (.*)\r$", answer, re.MULTILINE)
    assert given != hostile
    assert re.fullmatch("[A-Za-z0-9._-]{1,64}", given)


@pytest.mark.parametrize("good", ["a", "x" * 64, "0b9c6f0e-6f0c-4f0b-8b7e-2f6a1f0c9d11", "00017", "A.b_c-9"])
def test_a_valid_request_id_is_returned(good: str, watched: Service) -> None:
    assert ask(watched, "GET", "/nowhere", headers={"X-Request-ID": good})[:2] == (404, good)


def test_request_ids_are_unique(watched: Service) -> None:
    heads = ["GET /api/groups", "OPTIONS /api/groups", "BREW /api/groups", "GET /nowhere", "HEAD /api/groups"]
    answers = [
        raw(watched, f"{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()) for head in heads
    ]
    answers += [raw(watched, b"nonsense\r\n\r\n"), raw(watched, b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")]
    ids = [re.findall(r"(?i)^x-request-id: (\S+)\r$", answer, re.MULTILINE) for answer in answers]
    assert all(len(found) == 1 for found in ids), answers
    assert len({found[0] for found in ids}) == len(answers)


@pytest.fixture(scope="module")
def watched(server: object, template: object) -> Iterator[Service]:
    """A service that several tests ask."""
    with (
        janitor(server, "ledger_watched", template.template_dbname),
        serving(DATABASE_URL=server.database("ledger_watched").url("ledger_service")) as service,
    ):
        yield service


def raw(service: Service, sent: bytes) -> str:
    """Send bytes as they are, and return the bytes until the service ends the connection."""
    with socket.create_connection((service.host, service.port), timeout=PATIENCE) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_no_secret_and_no_text_of_a_client_is_logged(database: Database) -> None:
    word = "hidden-word"
    headers = {
        "Authorization": f"Bearer {word}",
        "Idempotency-Key": word,
        "Cookie": word,
        "User-Agent": word,
        "X-Request-ID": f"{word} {word}",
    }
    with serving(DATABASE_URL=database.url(database.service)) as service:
        ask(service, "POST", "/api/groups", {"name": word}, headers)
        ask(service, "POST", "/api/groups/1/participants", {"username": word, "amount": word}, headers)
        ask(service, "POST", f"/api/groups/1/participants?{word}={word}", {word: word}, headers)
        ask(service, "GET", f"/{word}?token={word}", None, headers)
        ask(service, "GET", f"/api/health?{word}", word, headers)
        ask(service, "BREW", f"/api/groups/{word}", None, headers)
        for head in (f"{word} / HTTP/1.1", f"GET /{word} {word}", f"GET http://{word}:x/ HTTP/1.1", f"GET {word}"):
            raw(service, f"{head}\r\nHost: {word}\r\nConnection: close\r\n\r\n".encode())
        assert service.stop() == 0
        assert service.process.stdout is not None
        logged = service.process.stdout.read()
        assert len(logged.splitlines()) == 10
        assert word not in logged
        assert word not in service.said()


def test_the_line_names_the_session_that_pg_stat_activity_shows(database: Database) -> None:
    sessions = "select pid, application_name from pg_stat_activity where wait_event_type = 'Lock'"
    with (
        serving(DATABASE_URL=database.url(database.service)) as service,
        database.connect(database.admin) as admin,
    ):
        with transfer_in_hand(service, admin) as (answer, release, (group, alice, bob)):
            waiting, name = one(admin, sessions)
            assert re.fullmatch(r"ledger serve 0 call [1-8]", name)
            release()
            assert answer.result(PATIENCE)[0] == 200
        ask(service, "POST", f"/api/groups/{group}/transfer", {"from": alice, "to": bob, "amount": 1})
        shared = "select pid from pg_stat_activity where application_name = 'ledger serve 0 shared 1'"
        (pid,) = one(admin, f"{shared} and datname = current_database()")
        by_itself, together = lines(service)
    assert (by_itself["backend_pid"], by_itself["batch"]) == (waiting, None)
    assert together["backend_pid"] == pid
    assert together["batch"] > 1


def test_requests_that_shared_a_call_log_its_number(database: Database) -> None:
    with (
        serving(DATABASE_URL=database.url(database.service)) as service,
        database.connect(database.admin) as admin,
        ThreadPoolExecutor(8) as threads,
    ):
        group = create(admin, "ETH")
        alice, bob = join(admin, group, "alice"), join(admin, group, "bob")
        path, body = f"/api/groups/{group}/transfer", {"from": alice, "to": bob, "amount": 1}
        assert {status for status, _ in threads.map(lambda _: service.ask("POST", path, body), range(40))} == {200}
        samples = scraped(service)
        transfers = [line for line in lines(service) if line["route"].endswith("transfer")]
    assert len(transfers) == 40
    assert (
        len({line["batch"] for line in transfers})
        == samples["ledger_shared_call_requests_count", ("function", "transfer_batch")]
    )


def test_only_errors_are_logged_with_log_faults(database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service), LOG="faults") as service:
        assert ask(service, "GET", "/api/groups")[0] == 200
        assert ask(service, "GET", "/nowhere")[1]
        assert lines(service) == []


# Readers


def test_lines_of_several_workers_do_not_mix(database: Database) -> None:
    with serving("--workers", "2", DATABASE_URL=database.url(database.service)) as service:
        read: list[str] = []
        assert service.process.stdout is not None
        reader = threading.Thread(target=lambda: read.extend(service.process.stdout))
        reader.start()

        def send(client: int) -> None:
            connection = http.client.HTTPConnection(service.host, service.port, timeout=PATIENCE)
            for number in range(100):
                path = f"/api/groups/{number}/participants/1" if number % 2 else '/"\\%0a%22'
                connection.request("GET", path, headers={"X-Request-ID": f"{client}-{number}"})
                assert connection.getresponse().read()
            connection.close()

        clients, deadline = 0, time.monotonic() + PATIENCE
        with ThreadPoolExecutor(12) as threads:
            # One worker may accept all connections of a moment.
            while len({json.loads(line)["worker"] for line in [*read]}) < 2 and time.monotonic() < deadline:
                list(threads.map(send, range(clients, clients + 12)))
                clients += 12
        assert service.stop() == 0
        reader.join(PATIENCE)
    logged = [json.loads(line) for line in read]
    sent = [f"{client}-{number}" for client in range(clients) for number in range(100)]
    assert sorted(line["request_id"] for line in logged) == sorted(sent)
    assert {line["worker"] for line in logged} == {0, 1}


def test_a_slow_reader_delays_no_request_and_loses_no_line(database: Database) -> None:
    with serving("--workers", "2", DATABASE_URL=database.url(database.service)) as service:
        sent = [ask(service, "GET", "/nowhere")[1] for _ in range(600)]  # more than a pipe of 64 KiB holds
        assert service.process.stdout is not None
        assert select.select([service.process.stdout], [], [], 0)[0]
        read = [json.loads(service.process.stdout.readline()) for _ in sent]
        assert sorted(line["request_id"] for line in read) == sorted(sent)
        assert scraped(service)["ledger_log_lines_dropped_total",] == 0


def test_a_closed_pipe_fails_no_request(database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service)) as service:
        assert service.process.stdout is not None
        service.process.stdout.close()
        assert [ask(service, "GET", "/api/groups")[0] for _ in range(5)] == [200] * 5
        until(lambda: scraped(service)["ledger_log_lines_dropped_total",] >= 5, "the lines to be counted")


def test_nothing_is_logged_into_another_file_when_standard_output_is_closed(database: Database) -> None:
    port = free_port()
    settings = environment(DATABASE_URL=database.url(database.service), PORT=str(port))
    command = ["sh", "-c", f"exec {LEDGER} serve --insecure <&- >&-"]
    with subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True) as process:
        service = Service(process, "", "127.0.0.1", port, process.stderr)
        try:
            until(lambda: service.listens() and service.answers(), "an answer")
            for _ in range(20):
                assert ask(service, "POST", "/api/groups", {"name": f"group {_}"})[0] == 201
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        # That the tests' server does without fsync, and that there is no API key.
        assert [line.split()[:2] for line in process.stderr.read().splitlines()] == [
            ["ledger:", "warning:"],
            ["ledger:", "there"],
        ]


def test_a_log_file_that_is_truncated_is_written_from_its_beginning(database: Database, tmp_path) -> None:
    port = free_port()
    settings = environment(DATABASE_URL=database.url(database.service), PORT=str(port))
    file = tmp_path / "log"
    with file.open("w") as out, subprocess.Popen([LEDGER, "serve", "--insecure"], env=settings, stdout=out) as process:
        service = Service(process, "", "127.0.0.1", port, out)
        try:
            until(lambda: service.listens() and service.answers(), "an answer")
            until(lambda: "request_id" in file.read_text(), "its line")
            os.truncate(file, 0)
            assert ask(service, "GET", "/api/groups", headers={"X-Request-ID": "after"})[0] == 200
            until(lambda: "after" in file.read_text(), "the next line")
            assert json.loads(file.read_text().splitlines()[-1])["request_id"] == "after"
            assert "\0" not in file.read_text()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


@dataclass
class Pipe:
    """A pipe that lines are written to, and how many were dropped."""

    reader: int
    lines: LineWriter
    dropped: list[int] = field(default_factory=list)

    def read_all(self) -> bytes:
        """Return the bytes in the pipe and those that are still queued."""
        found = b""
        while True:
            try:
                found += os.read(self.reader, 1 << 16)
            except BlockingIOError:
                if not self.lines.buffered:
                    return found
                self.lines.write()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    lock = metrics.share(0)
    dropped: list[int] = []
    yield Pipe(reader, LineWriter(writer, lock, dropped.append), dropped)
    for descriptor in (reader, writer, lock):
        os.close(descriptor)


def test_unread_lines_beyond_a_limit_are_dropped_and_counted(pipe: Pipe, monkeypatch) -> None:
    monkeypatch.setattr(log, "MAX_BUFFERED", 100_000)
    sent = [f"{number:099}\n".encode() for number in range(3000)]
    for line in sent:
        pipe.lines.add(line)
        pipe.lines.write()  # into a pipe that may be full
    assert pipe.lines.size <= 100_000
    logged = pipe.read_all().splitlines(keepends=True)
    assert logged == sent[: len(logged)]
    assert len(logged) + sum(pipe.dropped) == 3000
    assert sum(pipe.dropped) > 1000
    assert pipe.lines.size == 0


def test_another_process_that_writes_is_waited_for_without_blocking(pipe: Pipe) -> None:
    held = subprocess.Popen(
        ["python3", "-c", f"import fcntl; fcntl.lockf({pipe.lines.lock}, fcntl.LOCK_EX); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[pipe.lines.lock],
    )
    assert held.stdout is not None
    assert held.stdout.readline() == b"\n"
    pipe.lines.add(b"{}\n")
    assert not pipe.lines.write()
    held.communicate(b"\n")
    assert pipe.lines.write()
    assert os.read(pipe.reader, 100) == b"{}\n"


# Errors


@pytest.fixture
def error_log(pipe: Pipe) -> logging.Logger:
    """A logger of errors that writes into the pipe."""
    ours = Log(3, False, pipe.lines.lock, pipe.dropped.append)
    ours.errors = pipe.lines
    logger = logging.Logger("ledger")
    logger.addHandler(ErrorLogHandler(ours))
    return logger


def fail(depth: int, error: Exception) -> None:
    if depth:
        fail(depth - 1, error)
    raise error


@pytest.mark.parametrize(("depth", "words"), [(0, "it broke"), (200, "it broke"), (0, "\N{UNICORN FACE}\n" * 5000)])
def test_an_error_is_one_line_that_shows_where_it_ends(
    error_log: logging.Logger, pipe: Pipe, depth: int, words: str
) -> None:
    try:
        try:
            fail(depth, ValueError(words))
        except ValueError as error:
            raise RuntimeError("the last word") from error
    except RuntimeError as error:
        error_log.error("a request failed %s", words, exc_info=error, extra={"request_id": "abc"})
    logged = os.read(pipe.reader, 1 << 16)
    assert len(logged) <= select.PIPE_BUF
    assert logged.count(b"\n") == 1
    line = json.loads(logged)
    assert (line["level"], line["worker"], line["request_id"], line["logger"]) == ("error", 3, "abc", "ledger")
    assert line["message"].startswith("a request failed")
    if words == "it broke":
        assert line["exception"].endswith("RuntimeError: the last word")
    if depth == 0 and words == "it broke":
        assert "Traceback" in line["exception"]
        assert "ValueError: it broke" in line["exception"]


def test_a_logged_error_does_not_quote_a_row(error_log: logging.Logger, pipe: Pipe, owner: psycopg.Connection) -> None:
    word = "-".join(("hidden", "word"))  # a traceback shows these lines
    owner.execute("create temporary table secrets (word text, number integer not null)")
    with pytest.raises(psycopg.errors.NotNullViolation) as refused:
        owner.execute("insert into secrets values (%s)", [word])
    assert word in str(refused.value)
    error_log.error("a request failed", exc_info=refused.value)
    logged = os.read(pipe.reader, 1 << 16)
    assert b"NotNullViolation: null value in column" in logged
    assert word not in logged.decode()
