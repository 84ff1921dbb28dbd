"""The metrics of a running service: counts, labels, readers, and failures of workers and the database."""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.http.request import is_local
from api.postgres.pools import CALL_CONNECTIONS, READ_CONNECTIONS
from api.problems import PROBLEMS
from api.telemetry.metrics import METHODS, PATHS, STATUSES
from tests.running.commands import PATIENCE, Service, children, postmaster, serving
from tests.running.test_stop import transfer_in_hand
from tests.support import Database, create, join, until

Samples = dict[tuple, float]


def scraped(service: Service) -> Samples:
    """The number of each name and labels; a label is (name, value)."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=PATIENCE)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def answered(samples: Samples, **labels: str) -> float:
    """How many requests with these labels were answered."""
    wanted = set(labels.items())
    return sum(number for (name, *given), number in samples.items() if name == REQUESTS and wanted <= set(given))


REQUESTS = "ledger_requests_total"
LIST = "/api/groups"


@contextmanager
def resting(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_each_worker_reports_the_counts_of_all(database: Database) -> None:
    with serving("--workers", "2", DATABASE_URL=database.url(database.service)) as service:
        idle = 2 * READ_CONNECTIONS
        until(lambda: scraped(service)["ledger_pool_available", ("pool", "read")] == idle, "all to be connected")
        first, second = service.workers
        for other, times in ((first, 3), (second, 4)):
            with resting(other):
                assert [service.ask("GET", LIST)[0] for _ in range(times)] == [200] * times
        for other in (first, second):
            with resting(other):
                samples = scraped(service)
                assert samples[REQUESTS, ("method", "GET"), ("route", LIST), ("status", "200")] == 7
                assert samples["ledger_request_duration_seconds_count", ("route", LIST)] == 7
                assert samples["ledger_request_duration_seconds_bucket", ("le", "+Inf"), ("route", LIST)] == 7
                assert samples["ledger_pool_connections", ("pool", "call")] == 2 * CALL_CONNECTIONS
                assert samples["ledger_pool_available", ("pool", "read")] == idle
                assert samples["ledger_worker_starts_total",] == 2


def test_a_killed_workers_counters_are_kept_and_its_gauges_are_not(database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service)) as service, ThreadPoolExecutor() as threads:
        assert [service.ask("GET", LIST)[0] for _ in range(5)] == [200] * 5
        waiting = threads.submit(service.ask, "GET", "/api/entries?wait=30")
        until(lambda: scraped(service)["ledger_requests_in_flight",] == 2, "the request to wait")
        (worker,) = service.workers
        os.kill(worker, signal.SIGKILL)
        assert isinstance(waiting.exception(PATIENCE), OSError | http.client.HTTPException)
        samples = scraped(service)
        assert service.workers != [worker]
        assert answered(samples, route=LIST) == 5
        assert samples["ledger_requests_in_flight",] == 1
        assert samples["ledger_worker_starts_total",] == 2


def test_counts_transfers_shared_calls_and_waiting_requests(database: Database) -> None:
    with (
        serving(DATABASE_URL=database.url(database.service)) as service,
        database.connect(database.admin) as admin,
        ThreadPoolExecutor(8) as threads,
    ):
        group = create(admin, "BTC")
        alice, bob = join(admin, group, "alice"), join(admin, group, "bob")
        body = {"from": alice, "to": bob, "amount": 1}
        path = f"/api/groups/{group}/transfer"
        assert [status for status, _ in threads.map(lambda _: service.ask("POST", path, body), range(20))] == [200] * 20
        samples = scraped(service)
        assert samples["ledger_shared_call_requests_sum", ("function", "transfer_batch")] == 20
        assert 1 <= samples["ledger_shared_call_requests_count", ("function", "transfer_batch")] <= 20
        assert samples["ledger_shared_calls_waiting", ("function", "transfer_batch")] == 0
        with transfer_in_hand(service, admin) as (answer, release, _):
            samples = scraped(service)
            assert samples["ledger_pool_available", ("pool", "call")] == CALL_CONNECTIONS - 1
            assert samples["ledger_requests_in_flight",] == 2
            release()
            assert answer.result(PATIENCE)[0] == 200
        with transfer_in_hand_of_the_table(database, service, threads, path, body):
            until(
                lambda: scraped(service)["ledger_shared_calls_waiting", ("function", "transfer_batch")] == 3,
                "three to wait",
            )
        assert service.ask("POST", path, body | {"amount": 1000})[0] == 403
        samples = scraped(service)
        assert samples["ledger_problems_total", ("code", "insufficient_funds")] == 1
        assert {code for (name, *labels) in samples if name == "ledger_problems_total" for _, code in labels} == {
            *PROBLEMS
        }


@contextmanager
def transfer_in_hand_of_the_table(
    database: Database, service: Service, threads: ThreadPoolExecutor, path: str, body: dict
) -> Iterator[None]:
    """Four transfers, of which the first waits for the table and the others for its call."""
    with database.connect(database.admin, autocommit=False) as holder:
        holder.execute("lock table ledger.participants in access exclusive mode")
        sent = [threads.submit(service.ask, "POST", path, body)]
        shared = "select from pg_stat_activity where wait_event_type = 'Lock' and application_name ~ 'shared'"
        with database.connect(database.admin) as observer:
            until(lambda: observer.execute(shared).fetchall(), "the first one to wait")
        sent += [threads.submit(service.ask, "POST", path, body) for _ in range(3)]
        yield
        holder.rollback()
    assert [future.result(PATIENCE)[0] for future in sent] == [200] * 4


def test_no_client_makes_a_new_label(database: Database) -> None:
    hostile = random.Random(5)
    with serving(DATABASE_URL=database.url(database.service)) as service:
        heads = [
            *(f"{method} {LIST} HTTP/1.1" for method in ("BREW", "get", "X" * 3000, 'G"E\\T', "GÉT", "TRACE", "")),
            *(f"GET /{hostile.getrandbits(64)}/x?a=%22 HTTP/1.1" for _ in range(30)),
            *(f"GET {path} HTTP/1.1" for path in ("/api/groups/1/../2", "//", "*", '/"}\\n', "/api/groups/%00", "/é")),
            *("GET /api/groups/9/participants/77 HTTP/1.1", "GET /api/groups HTTP/3.0", "nonsense", "GET /"),
            *("HEAD /api/groups HTTP/1.1", "OPTIONS /api/groups HTTP/1.1", "OPTIONS /nowhere HTTP/1.1"),
        ]
        for head in heads:
            with socket.create_connection((service.host, service.port), timeout=PATIENCE) as connection:
                connection.sendall(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                received = b"".join(iter(lambda: connection.recv(65536), b""))
                assert b"x-request-id: " in received.lower(), head
        samples = scraped(service)
        found = [dict(labels) for (name, *labels) in samples if name == REQUESTS]
        assert {labels["route"] for labels in found} == {
            *("other", "/api/health", "/api/docs", LIST, "/api/groups/<id>", "/api/groups/<group_id>/participants/<id>")
        } - ({"/api/health"} if not answered(samples, route="/api/health") else set())
        assert {labels["method"] for labels in found} <= set(METHODS)
        assert {labels["status"] for labels in found} <= set(map(str, STATUSES))
        assert answered(samples, route="other") >= 30
        assert answered(samples, route=LIST, method="other", status="405") >= 3
        assert answered(samples) == len(heads) + answered(samples, route="/api/health")
        assert {dict(labels)["route"] for (_, *labels) in samples if "route" in dict(labels)} <= set(PATHS)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        *(("127.0.0.1", True), ("127.0.0.9", True), ("::1", True), ("::ffff:127.0.0.1", True)),
        *(("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("2001:db8::1", False), ("0.0.0.0", False), ("", False)),
    ],
)
def test_only_this_machine_is_local(address: str, local: bool) -> None:
    assert is_local(SimpleNamespace(ip=address)) == local


def address_of_this_machine() -> str | None:
    """Return an address at which other machines reach this one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        return sock.getsockname()[0]


@pytest.mark.skipif(address_of_this_machine() is None, reason="this machine has no address but loopback")
@pytest.mark.parametrize(("readers", "status"), [("local", 404), ("all", 200)])
def test_other_machines_read_the_metrics_only_when_allowed(readers: str, status: int, database: Database) -> None:
    given = ["--host", "0.0.0.0", "--metrics", readers]
    with serving(*given, DATABASE_URL=database.url(database.service)) as service:
        for host, expected in ((address_of_this_machine(), status), ("127.0.0.1", 200)):
            connection = http.client.HTTPConnection(host, service.port, timeout=PATIENCE)
            # A client's own headers have no effect.
            connection.request("GET", "/metrics", headers={"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=[::1]"})
            assert connection.getresponse().status == expected
            connection.close()


def test_a_database_that_does_not_answer_delays_neither_live_nor_metrics(fresh: Path) -> None:
    with serving(LEDGER_DATA=fresh) as service:
        samples = scraped(service)
        assert samples["ledger_database_up",] == 1
        assert samples["ledger_feed_lag_seconds",] >= 0
        assert samples["ledger_oldest_transaction_seconds",] >= 0
        server = postmaster(fresh)
        assert server
        stopped = [server, *children(server)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: scraped(service)["ledger_database_up",] == 0, "the database to be missed")
            for path, status, seconds in (("/api/health/live", 200, 0.5), ("/api/health", 503, 2.0)):
                began = time.monotonic()
                assert service.ask("GET", path)[0] == status
                assert time.monotonic() - began < seconds
            began = time.monotonic()
            samples = scraped(service)
            assert time.monotonic() - began < 2
            assert ("ledger_feed_lag_seconds",) not in samples
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        until(lambda: scraped(service)["ledger_database_up",] == 1, "the database to be seen again")


def test_before_a_stop_the_health_check_fails_and_requests_are_served(database: Database) -> None:
    with serving("--drain", "3600", "--workers", "2", DATABASE_URL=database.url(database.service)) as service:
        assert scraped(service)["ledger_draining",] == 0
        service.process.terminate()
        until(lambda: service.ask("GET", "/api/health")[0] == 503, "the health check to fail")
        for _ in range(8):
            status, problem = service.ask("GET", "/api/health")
            assert (status, problem["code"]) == (503, "unavailable")
            assert service.ask("GET", "/api/health/live") == (200, {"data": {"status": "ok"}})
            assert service.ask("POST", "/api/groups", {"name": f"group {_}"})[0] == 201
        assert scraped(service)["ledger_draining",] == 1
        # The replacement of a worker that dies during this time fails the check as well.
        for worker in service.workers:
            os.kill(worker, signal.SIGKILL)
        assert service.ask("GET", "/api/health")[0] == 503
        assert service.process.poll() is None
        # A second signal ends the drain at once.
        assert service.stop() == 0


def test_a_drain_ends_after_its_time(database: Database) -> None:
    with serving(DRAIN="1", DATABASE_URL=database.url(database.service)) as service:
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began >= 1
        assert not service.listens()
