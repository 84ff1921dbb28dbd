"""A stop finishes the open requests and leaves no process behind; a kill does no lasting harm."""

from __future__ import annotations

import http.client
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded
from tests.running.commands import LEDGER, PATIENCE, Service, lives, postmaster, serving, users_of
from tests.support import Database, balance, create, join, one, until


def to_the_first(number: int) -> Callable[[Service], None]:
    return lambda service: service.process.send_signal(number)


def to_the_terminal(service: Service) -> None:
    """Ctrl-C: every process of the foreground group gets it."""
    os.killpg(service.process.pid, signal.SIGINT)


def to_everyone(service: Service) -> None:
    """Stop every process, as a service manager does."""
    for pid in reversed(service.pids):
        os.kill(pid, signal.SIGTERM)


STOPS = {  # and the number of workers
    "SIGTERM": (to_the_first(signal.SIGTERM), "1"),
    "SIGTERM, two workers": (to_the_first(signal.SIGTERM), "2"),
    "SIGINT": (to_the_first(signal.SIGINT), "1"),
    "Ctrl-C": (to_the_terminal, "2"),
    "SIGTERM to everyone": (to_everyone, "2"),
}


@contextmanager
def transfer_in_hand(service: Service, admin: psycopg.Connection) -> Iterator[tuple[Future, Callable[[], None], tuple]]:
    """A transfer of 30 that waits for a locked row; its answer, the row's release, and the participants."""
    group = create(admin, "ETH")
    alice, bob = join(admin, group, "alice"), join(admin, group, "bob")
    with psycopg.connect(admin.info.dsn) as blocker, ThreadPoolExecutor() as threads:
        try:
            blocker.execute("select from ledger.participants where id = %s for update", [bob])
            body = {"from": bob, "to": alice, "amount": 30}
            answer = threads.submit(service.ask, "POST", f"/api/groups/{group}/transfer", body)
            query = "select count(*) from pg_stat_activity where application_name like %s and wait_event_type = 'Lock'"
            until(lambda: one(admin, query, ["ledger serve%"])[0] == 1, "the transfer to wait")
            yield answer, blocker.rollback, (group, alice, bob)
        finally:
            blocker.rollback()


@pytest.mark.parametrize(("stop", "workers"), STOPS.values(), ids=STOPS)
def test_a_stop_finishes_the_requests_in_hand(
    stop: Callable[[Service], None], workers: str, database: Database
) -> None:
    with (
        serving("--workers", workers, program=LEDGER, DATABASE_URL=database.url(database.service)) as service,
        database.connect(database.admin) as admin,
    ):
        pids = service.pids
        assert len(pids) == 1 + int(workers)
        with transfer_in_hand(service, admin) as (answer, release, (group, alice, bob)):
            stop(service)
            until(lambda: not service.listens(), "the service to refuse connections")
            assert service.process.poll() is None
            assert not answer.done()
            release()
            status, body = answer.result(PATIENCE)
        assert status == 200, body
        assert (body["data"]["from_participant"]["amount"], body["data"]["to_participant"]["amount"]) == (70, 130)
        assert service.process.wait(PATIENCE) == 0, service.said()
        assert not any(map(lives, pids))
        assert (balance(admin, group, bob), balance(admin, group, alice)) == (70, 130)


@pytest.mark.parametrize("stop", [to_the_first(signal.SIGTERM), to_the_terminal], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_stops_the_embedded_server(stop: Callable[[Service], None], fresh: Path) -> None:
    with serving("--workers", "2", LEDGER_DATA=fresh) as service:
        assert postmaster(fresh)
        with (
            psycopg.connect(embedded.url(fresh), autocommit=True) as admin,
            transfer_in_hand(service, admin) as (answer, release, _),
        ):
            stop(service)
            until(lambda: not service.listens(), "the service to refuse connections")
            release()
            assert answer.result(PATIENCE)[0] == 200
        assert service.process.wait(PATIENCE) == 0, service.said()
        assert users_of(fresh) == []
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups/1/participants/2")[1]["data"]["amount"] == 70


def test_an_idle_connection_does_not_delay_a_stop(database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service)) as service:
        idle = http.client.HTTPConnection(service.host, service.port, timeout=PATIENCE)
        idle.request("GET", "/api/health")
        assert idle.getresponse().read()
        service.process.terminate()
        assert service.process.wait(5) == 0  # seconds; the requests in hand are given more
        idle.close()


def test_the_port_is_free_after_a_stop(database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service)) as first:
        assert first.answers()
        assert first.stop() == 0
    with serving(DATABASE_URL=database.url(database.service), PORT=str(first.port)) as second:
        assert second.answers()


def test_workers_end_when_the_first_process_was_killed(database: Database) -> None:
    with serving("--workers", "2", DATABASE_URL=database.url(database.service)) as service:
        workers = service.workers
        assert len(workers) == 2
        service.process.kill()
        until(lambda: not any(map(lives, workers)), "the workers to end")
        assert not service.listens()


def test_after_a_kill_the_next_start_finds_the_data(fresh: Path) -> None:
    with serving("--workers", "2", LEDGER_DATA=fresh) as service:
        assert service.ask("POST", "/api/groups", {"name": "ETH"})[0] == 201
        workers = service.workers
        service.process.kill()
        until(lambda: not any(map(lives, workers)), "the workers to end")
        server = postmaster(fresh)
        assert server
    with serving(LEDGER_DATA=fresh) as service:
        assert postmaster(fresh) == server
        assert service.ask("GET", "/api/groups")[1]["data"] == [{"name": "ETH", "id": 1}]
    assert postmaster(fresh) is None


def test_killing_every_process_loses_no_acknowledged_write(fresh: Path) -> None:
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("POST", "/api/groups", {"name": "ETH"})[0] == 201
        server = postmaster(fresh)
        assert server
        for pid in [*service.pids, server]:
            os.kill(pid, signal.SIGKILL)
        service.process.wait(PATIENCE)
        until(lambda: not users_of(fresh), "everything to end")
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups")[1]["data"] == [{"name": "ETH", "id": 1}]
