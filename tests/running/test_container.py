"""`ledger serve` as the first process of a container, and while its embedded database cannot be started."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api import cli
from api.postgres import embedded
from tests.running.commands import LEDGER, PATIENCE, Service, arguments, children, lives, serving, users_of
from tests.support import until

UNSHARE = ("-p", "-f", "--mount-proc", "--kill-child")


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", *UNSHARE, "true"], capture_output=True, check=False).returncode == 0


in_a_container = pytest.mark.skipif(not can_unshare(), reason="needs the right to make a PID namespace")


@contextmanager
def contained(data: Path) -> Iterator[tuple[Service, int]]:
    """A service that is process 1 of a PID namespace, and its pid outside of it."""
    with serving(*UNSHARE, str(LEDGER), "serve", program=Path("unshare"), LEDGER_DATA=data) as service:
        (first,) = children(service.process.pid)
        yield service, first
        if lives(first):
            os.kill(first, signal.SIGTERM)
        assert service.process.wait(PATIENCE) == 0, service.said()


def server_of(data: Path) -> int | None:
    """The embedded server's first process, by the pid that it has for us."""
    # Beside it pg_ctl runs `postgres -V` for a moment.
    return next(
        (pid for pid in users_of(data) if arguments(pid)[0].endswith("/postgres") and "-D" in arguments(pid)), None
    )


def ended_children(pid: int) -> list[int]:
    return [child for child in children(pid) if not lives(child)]


@in_a_container
def test_restarts_the_database_and_reaps_every_orphan(fresh: Path) -> None:
    with contained(fresh) as (service, first):
        for number in range(1, 4):
            assert service.ask("POST", "/api/groups", {"name": f"group {number}"})[0] == 201
            killed = server_of(fresh)
            os.kill(killed, signal.SIGKILL)
            until(lambda killed=killed: not lives(killed), "the database to be gone")
            until(service.answers, "the service to answer again")
            assert server_of(fresh) not in (None, killed)
            until(lambda: not ended_children(first), "the orphans to be collected")
            until(lambda number=number: service.said().count("it runs again") == number, "a word of it")
        assert len(service.ask("GET", "/api/groups")[1]["data"]) == 3


@in_a_container
def test_replaces_a_worker_beside_the_orphans(fresh: Path) -> None:
    with contained(fresh) as (service, first):
        worker = next(pid for pid in children(first) if "api.server.worker" in arguments(pid))
        for pid in (server_of(fresh), worker):
            os.kill(pid, signal.SIGKILL)
        until(lambda: "worker 0 ended with -9" in service.said(), "a word of the worker")
        until(lambda: "it runs again" in service.said(), "a word of the database")
        until(service.answers, "the service to answer again")
        until(lambda: not ended_children(first), "the orphans to be collected")


@in_a_container
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_process_of_a_container_stops_on_a_signal(fresh: Path, number: int) -> None:
    with contained(fresh) as (service, first):
        os.kill(first, number)
        assert service.process.wait(PATIENCE) == 0, service.said()
    assert users_of(fresh) == []


def test_a_hangup_stops_the_service(fresh: Path) -> None:
    with serving(LEDGER_DATA=fresh) as service:
        assert service.stop(signal.SIGHUP) == 0
        assert users_of(fresh) == []


def test_a_hangup_that_is_ignored_stops_nothing(fresh: Path) -> None:
    with serving(str(LEDGER), "serve", program=Path("/usr/bin/nohup"), LEDGER_DATA=fresh) as service:
        for _ in range(2):
            service.process.send_signal(signal.SIGHUP)
            assert service.answers()
        status = Path(f"/proc/{service.process.pid}/status").read_text()
        pending = next(line.split()[1] for line in status.splitlines() if line.startswith("ShdPnd:"))
        assert int(pending, 16) == 0
        assert service.answers()


def kill_the_database(service: Service, data: Path) -> None:
    os.kill(server_of(data), signal.SIGKILL)
    until(lambda: "the database has died and was not started" in service.said(), "a word of it")


def test_logs_a_failed_restart_of_the_database_and_stops(fresh: Path) -> None:
    conf = fresh / "pgdata" / "postgresql.conf"
    good = conf.read_text()
    with serving(LEDGER_DATA=fresh) as service:
        conf.write_text(f"{good}shared_buffers = nonsense\n")
        kill_the_database(service, fresh)
        assert 'invalid value for parameter "shared_buffers"' in service.said()
        conf.write_text(good)
        until(lambda: "it runs again" in service.said(), "another attempt")
        until(service.answers, "the service to answer again")
        conf.write_text(f"{good}shared_buffers = nonsense\n")
        kill_the_database(service, fresh)
        assert service.stop() == 0
    assert users_of(fresh) == []


def test_stops_while_another_process_blocks_the_restart_of_the_database(fresh: Path) -> None:
    with serving(LEDGER_DATA=fresh) as service, (fresh / "start.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kill_the_database(service, fresh)
        assert service.stop() == 0
    assert users_of(fresh) == []


def test_stops_while_the_database_recovers(fresh: Path) -> None:
    """The new server is stopped in the midst of its start, as one whose recovery takes long."""
    with serving(LEDGER_DATA=fresh) as service:
        before = server_of(fresh)
        os.kill(before, signal.SIGKILL)
        until(lambda: server_of(fresh) not in (None, before), "another server")
        os.kill(after := server_of(fresh), signal.SIGSTOP)
        try:
            service.process.send_signal(signal.SIGTERM)
            until(lambda: not service.listens(), "the service to stop")
        finally:
            os.kill(after, signal.SIGCONT)
        assert service.process.wait(PATIENCE) == 0, service.said()
    assert users_of(fresh) == []


def test_pauses_longer_after_each_failed_restart_of_the_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, tried, works = 0.0, [], False

    def revive(data: Path) -> bool:
        tried.append(now)
        if not works:
            raise embedded.EmbeddedError("no room")
        return True

    monkeypatch.setattr(cli.time, "monotonic", lambda: now)
    monkeypatch.setattr(cli.embedded, "revive", revive)
    monkeypatch.setattr(cli.embedded, "clear_log", lambda data: None)
    monkeypatch.setattr(cli, "is_away", lambda conninfo: False)
    look = cli.EmbeddedMonitor(Path("/nowhere"))
    while now < 200:
        look()
        now += 1
    assert tried == [0, 1, 3, 7, 15, 31, 61, 91, 121, 151, 181]
    assert capsys.readouterr().err.count("was not started: no room") == len(tried)
    works = True
    now = 211
    look()
    assert "it runs again" in capsys.readouterr().err
    works, tried = False, []
    for _ in range(3):
        look()
        now += 1
    assert len(tried) == 2  # at once, and after a second
