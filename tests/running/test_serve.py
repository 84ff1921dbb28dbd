"""`ledger serve`: its address, its processes, and that a restart keeps the data."""

from __future__ import annotations

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

from api.postgres.preflight import StartError
from api.server import supervisor
from api.server.settings import Settings, WorkerSettings
from tests.running.commands import LEDGER, arguments, children, free_port, lives, postmaster, serving
from tests.support import Database, until


def test_serves_from_a_folder_that_does_not_exist_yet(unused: Path) -> None:
    with serving("serve", program=LEDGER, LEDGER_DATA=unused) as service:
        assert service.announcement.startswith(f"Ledger answers on http://127.0.0.1:{service.port} (PostgreSQL 18")
        assert str(unused) in service.announcement
        assert service.answers()
        assert service.ask("POST", "/api/groups", {"name": "ETH"}) == (201, {"data": {"name": "ETH", "id": 1}})
    assert postmaster(unused) is None


def test_a_restart_finds_the_data(fresh: Path) -> None:
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("POST", "/api/groups", {"name": "ETH"})[0] == 201
        assert service.ask("POST", "/api/groups/1/participants", {"username": "alice", "amount": 2**255})[0] == 201
        assert service.stop() == 0
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups/1/total") == (200, {"data": {"group_total": 2**255}})


def test_restarts_a_database_that_was_killed(fresh: Path) -> None:
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("POST", "/api/groups", {"name": "ETH"})[0] == 201
        killed = postmaster(fresh)
        os.kill(killed, signal.SIGKILL)
        until(lambda: not lives(killed), "the database to be gone")
        until(service.answers, "the service to answer again")
        assert service.ask("GET", "/api/groups/1") == (200, {"data": {"name": "ETH", "id": 1}})
        assert service.ask("POST", "/api/groups", {"name": "BTC"})[0] == 201
        assert postmaster(fresh) not in (None, killed)
        assert service.stop() == 0
    assert postmaster(fresh) is None


def test_options_without_a_command_mean_serve(database: Database) -> None:
    port = free_port()
    with serving("--port", str(port), DATABASE_URL=database.url(database.service)) as service:
        assert service.port == port
        assert service.answers()


def test_options_override_the_environment(database: Database) -> None:
    settings = {"HOST": "127.0.0.9", "PORT": "1", "WORKERS": "2"}
    given = ["--host", "127.0.0.1", "--port", str(free_port()), "--workers", "1"]
    with serving("serve", *given, DATABASE_URL=database.url(database.service), **settings) as service:
        assert (service.host, str(service.port)) == ("127.0.0.1", given[3])
        assert len(service.workers) == 1
        assert service.answers()


def test_settings_come_from_the_environment(database: Database) -> None:
    settings = {"HOST": "127.0.0.9", "PORT": str(free_port()), "WORKERS": "2"}
    with serving(DATABASE_URL=database.url(database.service), **settings) as service:
        assert (service.host, str(service.port)) == ("127.0.0.9", settings["PORT"])
        assert len(service.workers) == 2
        assert service.answers()


def test_an_empty_setting_is_an_unset_one(database: Database) -> None:
    given = ["--port", str(free_port())]
    settings = {"HOST": "", "PORT": "", "WORKERS": "", "LEDGER_ADMIN_URL": ""}
    with serving(*given, DATABASE_URL=database.url(database.service), **settings) as service:
        assert service.host == "127.0.0.1"
        assert len(service.workers) == 1


def test_listens_on_ipv6(database: Database) -> None:
    with serving("--host", "::1", DATABASE_URL=database.url(database.service)) as service:
        assert f"http://[::1]:{service.port} " in service.announcement
        assert service.answers()


def test_each_worker_answers(database: Database) -> None:
    with serving("--workers", "2", DATABASE_URL=database.url(database.service)) as service:
        assert len(service.workers) == 2
        for resting in service.workers:
            os.kill(resting, signal.SIGSTOP)
            try:
                assert all(service.answers() for _ in range(3))
            finally:
                os.kill(resting, signal.SIGCONT)
        with database.connect(database.admin) as admin:
            sessions = "select distinct application_name from pg_stat_activity where datname = current_database()"
            connections = [("call", 8), ("read", 2), ("shared", 1), ("shared read", 1), ("access", 1), ("new key", 1)]
            connections += [("feed", 2)]
            expected = {
                f"ledger serve {worker} {pool} {number}"
                for worker in (0, 1)
                for pool, size in connections
                for number in range(1, size + 1)
            }
            # A worker answers as soon as one of them is there.
            until(lambda: {name for (name,) in admin.execute(sessions)} >= expected, "every connection")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_worker_that_was_killed_is_replaced(workers: str, database: Database) -> None:
    with serving("--workers", workers, DATABASE_URL=database.url(database.service)) as service:
        before = service.workers
        os.kill(before[0], signal.SIGKILL)
        # A request during this time is answered by another worker, or waits for the new one.
        assert service.answers()
        while (
            before[0] in service.workers  # for a moment it is still there
            or len(service.workers) < int(workers)
            or not all(map(lives, service.workers))
        ):
            assert service.answers()
        assert service.workers[0] != before[0]
        assert service.workers[1:] == before[1:]
        for resting in service.workers[1:]:
            os.kill(resting, signal.SIGSTOP)
        assert service.answers()
        for resting in service.workers[1:]:
            os.kill(resting, signal.SIGCONT)
        assert "worker 0 ended with -9" in service.said()
        assert service.stop() == 0


def test_a_worker_that_is_killed_while_it_starts_does_not_end_the_others(database: Database) -> None:
    with serving("--workers", "2", DATABASE_URL=database.url(database.service)) as service:
        kept = service.workers[1]
        killed = 0
        while killed < 3:  # the second and third are on their way
            for worker in set(service.workers) - {kept}:
                os.kill(worker, signal.SIGKILL)
                killed += 1
                until(lambda worker=worker: not lives(worker), "its death")
            assert service.answers()
        until(lambda: len(service.workers) == 2, "another worker")
        assert service.answers()
        assert service.workers[1] == kept
        assert "trying again" in service.said()


def test_no_command_line_shows_the_password(database: Database) -> None:
    conninfo = database.url(database.service) + "&password=hidden-word"
    with serving(program=LEDGER, DATABASE_URL=conninfo) as service:
        assert service.answers()
        assert "hidden-word" not in service.announcement
        assert len(service.workers) == 1
        for pid in [service.process.pid, *children(service.process.pid)]:
            assert "hidden-word" not in " ".join(arguments(pid))


def test_a_worker_that_cannot_be_forked_is_an_error_with_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(supervisor.subprocess, "Popen", fail)
    settings = Settings(1, True, False, False, 0)
    with socket.socket() as sock:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(StartError, match="could not be started"):
            supervisor.start(sock, 0, 0, "", settings, 0)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_worker_gets_its_settings_as_json() -> None:
    service = Settings(2, True, False, True, 3, "::1", ("https://a.example", "https://b.example"), "_ledger_web")
    given = WorkerSettings(service, "postgresql://", 3, 4, 5, 6)
    assert WorkerSettings.from_json(given.to_json()) == given
