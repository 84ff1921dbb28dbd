"""Answers when the database is slow, busy, restarted, migrated or unreachable, and the outcome of the requests."""

import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded, migrate
from tests.conftest import VERSION
from tests.http.client import Service, problem, serving
from tests.support import Database, one, until

SESSIONS = (
    "select pid from pg_stat_activity where datname = current_database() and application_name like 'ledger serve%'"
)


HEALTH = "select pid from pg_stat_activity where application_name = 'ledger serve 0 health'"


def waiting(admin: psycopg.Connection) -> list[int]:
    """The service's sessions that wait for a lock."""
    return [pid for (pid,) in admin.execute(f"{SESSIONS} and wait_event_type = 'Lock'").fetchall()]


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as pool:
        yield pool


@pytest.fixture
def move(api, group, background) -> Callable[[], Future]:
    """Transfer 50 from bob to alice, in the background."""
    body = {"from": group.bob, "to": group.alice, "amount": 50}
    return lambda: background.submit(api, "POST", f"{group.path}/transfer", body)


@pytest.fixture
def locked(api, group) -> Iterator[psycopg.Connection]:
    """A session that holds bob's row."""
    with api.database.connect(api.database.admin, autocommit=False) as session:
        session.execute("select from ledger.participants where id = %s for update", [group.bob])
        yield session
        session.rollback()


def balance(api: Service, group) -> int:
    return api("GET", f"{group.path}/participants/{group.bob}").data["amount"]


def test_a_lock_that_takes_too_long_is_busy_and_nothing_is_done(api, group, locked, move):
    answer = move().result()
    body = problem(answer, 503, "busy")
    assert body["sqlstate"] == "55P03"
    assert int(answer.headers["Retry-After"]) > 0
    assert balance(api, group) == 100


def test_a_connection_lost_under_way_is_an_unknown_outcome(api, group, locked, move, admin):
    moving = move()
    until(lambda: waiting(admin))
    admin.execute("select pg_terminate_backend(%s)", waiting(admin))
    answer = moving.result()
    problem(answer, 504, "outcome_unknown")
    assert "Retry-After" not in answer.headers
    locked.rollback()
    assert balance(api, group) == 100


def test_a_read_is_repeated_on_another_connection(api, group, admin, background):
    with api.database.connect(api.database.admin, autocommit=False) as session:
        session.execute("lock table ledger.participants in access exclusive mode")
        reading = background.submit(balance, api, group)
        until(lambda: waiting(admin))
        admin.execute("select pg_terminate_backend(%s)", waiting(admin))
        until(lambda: waiting(admin))
    assert reading.result() == 100


def test_connections_closed_while_idle_fail_no_request(api, group, admin):
    admin.execute(f"select pg_terminate_backend(pid, 10000) from ({SESSIONS}) as s")
    for _ in range(20):
        assert api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 1}).status == 200
    assert balance(api, group) == 80


def test_a_call_is_repeated_after_a_deadlock(api, group, locked, admin, move):
    moving = move()
    until(lambda: waiting(admin))
    # The transfer holds alice and waits for bob, whom we hold: asking for alice closes the ring. We get her only when
    # the transfer is refused, which PostgreSQL does to the one that has waited for its deadlock_timeout first.
    locked.execute("select from ledger.participants where id = %s for update", [group.alice])
    locked.rollback()
    assert moving.result().status == 200
    assert balance(api, group) == 50


def test_the_health_check_answers_while_the_pool_is_full(api, group, locked, move, admin):
    moving = [move() for _ in range(20)]
    until(lambda: len(waiting(admin)) >= 8)
    started = time.monotonic()
    assert api("GET", "/api/health").status == 200
    assert time.monotonic() - started < 2
    locked.rollback()
    assert {future.result().status for future in moving} <= {200, 403}
    assert balance(api, group) == 0


def test_a_full_pool_is_busy_and_refused_requests_are_not_done(api, group, locked, move):
    # Eight at a time wait a second for the row; those that wait five seconds for a connection are refused.
    refusals = [problem(future.result(), 503, "busy") for future in [move() for _ in range(64)]]
    assert {refusal.get("sqlstate") for refusal in refusals} == {"55P03", None}
    locked.rollback()
    assert balance(api, group) == 100


def test_a_read_does_not_wait_for_calls_that_wait(api, group, other, locked, move, admin):
    moving = [move() for _ in range(20)]
    until(lambda: len(waiting(admin)) >= 8)
    assert api("GET", f"{other.path}/total").status == 200
    locked.rollback()
    assert {future.result().status for future in moving} <= {200, 403}


def test_health_checks_at_once_share_an_answer(api, admin, background):
    assert api("GET", "/api/health").status == 200
    (health,) = one(admin, HEALTH)
    os.kill(health, signal.SIGSTOP)
    try:
        asked = [background.submit(api, "GET", "/api/health") for _ in range(8)]
        for answer in asked:
            problem(answer.result(), 503, "unavailable")
    finally:
        os.kill(health, signal.SIGCONT)


def test_the_health_check_answers_in_time_whatever_the_database_does(api, admin):
    until(lambda: len(admin.execute(HEALTH).fetchall()) <= 1, "the health check that was given up to end")
    assert api("GET", "/api/health").status == 200
    (health,) = one(admin, HEALTH)
    os.kill(health, signal.SIGSTOP)
    try:
        started = time.monotonic()
        problem(api("GET", "/api/health"), 503, "unavailable")
        assert time.monotonic() - started < 2
        # It does not wait for a connection that it has given up.
        assert api("GET", "/api/health").status == 200
    finally:
        os.kill(health, signal.SIGCONT)


def test_a_migration_under_a_running_service_fails_no_request(api, group, admin):
    text = (migrate.RESOURCES / "db" / "functions" / "api" / "get_participant.sql").read_text()
    path = f"{group.path}/participants/{group.bob}"
    assert {api("GET", path).status for _ in range(20)} == {200}
    changed = text.replace("default null\n)", "default null,\n  note text default null\n)")
    assert changed != text
    for version in (changed, text):
        with admin.transaction():
            admin.execute("drop function ledger.get_participant")
            admin.execute(version)
        assert {api("GET", path).status for _ in range(20)} == {200}


def test_a_client_that_disconnects_leaves_no_session_behind(api, group, locked, admin):
    body = b'{"from": %d, "to": %d, "amount": 50}' % (group.bob, group.alice)
    head = (
        b"POST %s/transfer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", api.port)) as connection:
        connection.sendall(head % (group.path.encode(), len(body)) + body)
        until(lambda: waiting(admin))
    until(lambda: not waiting(admin))
    locked.rollback()
    assert balance(api, group) in (100, 50)
    assert api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 1}).status == 200


def test_the_service_recovers_when_the_database_comes_back(background):
    with tempfile.TemporaryDirectory(prefix="ledger-") as folder:
        data = Path(folder)
        with embedded.running(data, VERSION):
            database = Database(lambda role: embedded.url(data, role), embedded.SERVICE, embedded.ADMIN)
            migrate.migrate(database.url(database.admin))
            with database.connect(database.admin) as admin:
                admin.execute(f"create role {embedded.SERVICE} login in role ledger_api")
                admin.execute(f"alter role {embedded.SERVICE} set log_min_messages = panic")
            with serving(database) as service:
                assert service("POST", "/api/groups", {"name": "ETH"}).status == 201
                postmaster = int((data / "pgdata" / "postmaster.pid").read_text().split()[0])
                os.kill(postmaster, signal.SIGINT)
                until(lambda: not (data / "pgdata" / "postmaster.pid").exists())
                problem(service("GET", "/api/health"), 503, "unavailable")
                until(lambda: service("GET", "/api/groups").json["code"] == "unavailable")
                for method, path, body in (("GET", "/api/groups", None), ("POST", "/api/groups", {"name": "BTC"})):
                    answer = service(method, path, body)
                    problem(answer, 503, "unavailable")
                    assert int(answer.headers["Retry-After"]) > 0
                with embedded.running(data, VERSION, keep=True):
                    until(lambda: service("GET", "/api/health").status == 200)
                    until(lambda: service("GET", "/api/groups").status == 200)
                    assert [group["name"] for group in service("GET", "/api/groups").data] == ["ETH"]


def deadlocks(admin: psycopg.Connection) -> int:
    """Return the number of deadlocks in the server's log."""
    query = "select setting || '/' || pg_current_logfile() from pg_settings where name = 'data_directory'"
    return Path(one(admin, query)[0]).read_text(errors="replace").count("deadlock detected")


def test_many_clients_at_once_lose_nothing(api, group, admin):
    """Transfers among 8 participants in both directions, while others join, exit and try to remove the group."""
    before = deadlocks(admin)
    path = f"{group.path}/participants"
    eight = [group.alice, group.bob]
    eight += [api("POST", path, {"username": f"p{i}", "amount": 100}).data["id"] for i in range(6)]
    stop = time.monotonic() + 3
    seen: set[tuple[str, int]] = set()

    def transfer(number: int) -> None:
        for i in range(1_000_000):
            if time.monotonic() > stop:
                return
            sender, recipient = eight[(number + i) % 8], eight[(number * 3 + i * 5 + 1) % 8]
            if sender != recipient:
                body = {"from": sender, "to": recipient, "amount": 1 + i % 7}
                seen.add(("transfer", api("POST", f"{group.path}/transfer", body).status))

    def come_and_go(number: int) -> None:
        while time.monotonic() < stop:
            joined = api("POST", path, {"username": f"guest {number}", "amount": 10})
            seen.add(("join", joined.status))
            seen.add(("exit", api("DELETE", joined.headers["Location"]).status))
            seen.add(("remove", api("DELETE", group.path).status))

    clients = [threading.Thread(target=transfer, args=[i]) for i in range(56)]
    clients += [threading.Thread(target=come_and_go, args=[i]) for i in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert seen - {("transfer", 403)} == {("transfer", 200), ("join", 201), ("exit", 200), ("remove", 409)}
    assert api("GET", f"{group.path}/total").data == {"group_total": 800}
    assert sum(row["amount"] for row in api("GET", path).data) == 800
    assert deadlocks(admin) == before
