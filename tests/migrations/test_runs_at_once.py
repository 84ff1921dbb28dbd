"""Runs of `migrate` at the same time, beside yoyo's own, under a busy service, and after a killed run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded, migrate
from tests.conftest import Server
from tests.migrations.steps import EXAMPLE, NAMES, ROOT, apply_before, fingerprint_of, locks, marked, python

# With the migrations of a folder.
MIGRATE = """
import sys
from pathlib import Path
from api.postgres import migrate

migrate.MIGRATIONS = Path(sys.argv[2])
print(*migrate.migrate(sys.argv[1]))
"""

# Dies where the n-th migration is committed and yoyo has not yet noted it.
DIE_BEFORE_THE_MARK = """
import os, signal, sys
from pathlib import Path
from api.postgres import migrate

migrate.MIGRATIONS = Path(sys.argv[2])
log, runs = migrate.Backend.log_migration, []

def die(self, *arguments):
    runs.append(arguments)
    if len(runs) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    log(self, *arguments)

migrate.Backend.log_migration = die
migrate.migrate(sys.argv[1])
"""

# Statements of a busy service that a migration has to wait for, by the migration.
HOLDING = {
    "0001.baseline": "create schema ledger",
    "0002.exits": "select from ledger.participants",
    EXAMPLE: "lock table ledger.groups in share mode",
}


@pytest.fixture
def hasty(names: list[str]) -> None:
    """Have the migrations wait for a lock no longer than 0.1 s."""
    for file in migrate.MIGRATIONS.iterdir():
        text = file.read_text()
        assert "set local lock_timeout = '5s';" in text
        file.write_text(text.replace("lock_timeout = '5s'", "lock_timeout = '100ms'"))


@contextmanager
def service(conninfo: str, statement: str) -> Iterator[psycopg.Connection]:
    """A session of the running service in a transaction that has done something."""
    with psycopg.connect(conninfo, application_name="ledger serve") as session:
        session.execute(statement)
        yield session
        session.rollback()


def wait_until(server: Server, condition: str) -> None:
    """Return once a session of the database meets the condition."""
    deadline = time.monotonic() + 30
    # From another database, so as not to be a session that may hold yoyo's lock.
    with server.database("postgres").connect(embedded.ADMIN) as observer:
        query = f"select from pg_stat_activity where datname = 'ledger_empty' and {condition}"
        while not observer.execute(query).fetchall():
            assert time.monotonic() < deadline, f"no session ever met {condition}"


def wait_until_one_is_blocked(server: Server) -> None:
    wait_until(server, "cardinality(pg_blocking_pids(pid)) > 0")


def put_lock_row(conninfo: str, age: str) -> None:
    """Insert the lock of a run of yoyo that was killed so long ago."""
    with migrate.Backend(conninfo, "test") as backend:
        backend.init_database()
        backend.connection.execute(
            "insert into yoyo_lock values (1, clock_timestamp() at time zone 'utc' - %s::interval, 4242)", [age]
        )


def finished(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return out


def test_a_second_run_has_nothing_to_do(conninfo, complete):
    assert migrate.migrate(conninfo) == NAMES
    assert migrate.migrate(conninfo) == []
    assert fingerprint_of(conninfo) == complete


def test_processes_at_once_apply_each_migration_once(conninfo, names, complete):
    runs = [python(MIGRATE, conninfo, str(migrate.MIGRATIONS)) for _ in range(3)]
    assert sorted(" ".join(finished(run) for run in runs).split()) == names
    assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (complete, names, 0)


def test_succeeds_beside_a_run_of_yoyo(conninfo, complete):
    database = conninfo.replace("postgresql://", "postgresql+psycopg://")
    command = [Path(sys.executable).parent / "yoyo", "apply", "-d", database]
    yoyo = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    migrate.migrate(conninfo)
    finished(yoyo)
    assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (complete, NAMES, 0)


@pytest.mark.parametrize("age", ["1 second", "1 day"])
def test_clears_the_lock_of_a_run_that_was_killed(conninfo, age, caplog):
    put_lock_row(conninfo, age)
    # The running service does not keep it from being cleared, nor does a session that began after the killed run.
    with service(conninfo, "select 1"):
        if age == "1 day":
            with psycopg.connect(conninfo):
                assert migrate.migrate(conninfo) == NAMES
        assert migrate.migrate(conninfo) == ([] if age == "1 day" else NAMES)
    assert locks(conninfo) == 0
    assert "killed" in caplog.text


def test_respects_the_lock_of_a_live_run(conninfo, monkeypatch):
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 0.1)
    with psycopg.connect(conninfo, autocommit=True) as yoyo:
        put_lock_row(conninfo, "0 seconds")
        row = yoyo.execute("select * from yoyo_lock").fetchall()
        with pytest.raises(migrate.MigrationError, match=rf"\b{yoyo.info.backend_pid}\b"):
            migrate.migrate(conninfo)
        assert yoyo.execute("select * from yoyo_lock").fetchall() == row
    assert migrate.migrate(conninfo) == NAMES


def test_waits_for_a_live_run(conninfo, monkeypatch):
    asked = []
    possible_holders = migrate.possible_holders

    def release_when_asked(*arguments):
        holders = possible_holders(*arguments)
        if not asked:
            yoyo.execute("delete from yoyo_lock")
        asked.append(holders)
        return holders

    monkeypatch.setattr(migrate, "possible_holders", release_when_asked)
    with psycopg.connect(conninfo, autocommit=True) as yoyo:
        put_lock_row(conninfo, "0 seconds")
        assert migrate.migrate(conninfo) == NAMES
    assert len(asked) == 1


@pytest.mark.parametrize("name", HOLDING)
def test_a_migration_gives_up_on_a_lock_and_changes_nothing(hasty, conninfo, names, complete, name):
    apply_before(conninfo, name)
    before, marks = fingerprint_of(conninfo), marked(conninfo)
    with service(conninfo, HOLDING[name]):
        with pytest.raises(migrate.MigrationError):
            migrate.migrate(conninfo)
        assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (before, marks, 0)
    migrate.migrate(conninfo)
    assert (fingerprint_of(conninfo), marked(conninfo)) == (complete, names)


def test_a_roll_back_gives_up_on_a_lock_and_changes_nothing(hasty, conninfo, names):
    migrate.migrate(conninfo)
    for name in reversed(names):
        migration = next(migration for migration in migrate.shipped() if migration.id == name)
        before = fingerprint_of(conninfo), marked(conninfo), 0
        with (
            service(conninfo, "lock table ledger.groups, ledger.entries, ledger.idempotency_keys in share mode"),
            migrate.locked(conninfo) as backend,
            pytest.raises(psycopg.errors.LockNotAvailable),
        ):
            backend.rollback_one(migration)
        assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == before
        with migrate.locked(conninfo) as backend:
            backend.rollback_one(migration)


def test_a_migration_that_fails_changes_nothing_and_is_not_marked(hasty, conninfo, names, complete):
    apply_before(conninfo, names[1])
    before = fingerprint_of(conninfo)
    script = migrate.MIGRATIONS / f"{names[1]}.sql"
    text = script.read_text()
    script.write_text(f"{text}\nselect 1 / 0;\n")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate.migrate(conninfo)
    assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (before, names[:1], 0)
    script.write_text(text)
    migrate.migrate(conninfo)
    assert (fingerprint_of(conninfo), marked(conninfo)) == (complete, names)


def test_a_run_killed_inside_a_migration_is_resumed(server, conninfo, names, complete):
    apply_before(conninfo, names[1])
    with service(conninfo, HOLDING[names[1]]):
        run = python(MIGRATE, conninfo, str(migrate.MIGRATIONS))
        wait_until_one_is_blocked(server)
        run.kill()
        run.communicate()
    assert migrate.migrate(conninfo) == names[1:]
    assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (complete, names, 0)


def test_waits_for_the_statement_of_a_killed_run(server, conninfo, names, complete):
    with service(conninfo, HOLDING[names[0]]) as session, ThreadPoolExecutor() as pool:
        run = python(MIGRATE, conninfo, str(migrate.MIGRATIONS))
        wait_until_one_is_blocked(server)
        run.kill()
        run.communicate()
        # Its transaction waits on, for the lock that the session holds.
        following = pool.submit(migrate.migrate, conninfo)
        wait_until(server, "application_name = 'ledger migrate: lock'")
        session.rollback()
        assert following.result(timeout=60) == names
    assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (complete, names, 0)


@pytest.mark.parametrize("name", HOLDING)
def test_a_run_killed_between_a_migration_and_its_mark_is_resumed(conninfo, names, complete, name):
    run = python(DIE_BEFORE_THE_MARK, conninfo, str(migrate.MIGRATIONS), str(names.index(name) + 1))
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert marked(conninfo) == names[: names.index(name)]
    assert fingerprint_of(conninfo)["functions"]
    assert migrate.migrate(conninfo) == names[names.index(name) :]
    assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (complete, names, 0)


def test_a_killed_run_of_yoyo_is_resumed(server, conninfo, complete):
    database = conninfo.replace("postgresql://", "postgresql+psycopg://")
    with service(conninfo, HOLDING[NAMES[0]]):
        yoyo = subprocess.Popen(
            [Path(sys.executable).parent / "yoyo", "apply", "-d", database],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until_one_is_blocked(server)
        os.kill(yoyo.pid, signal.SIGKILL)
        yoyo.wait()
    assert locks(conninfo) == 1
    assert migrate.migrate(conninfo) == NAMES
    assert (fingerprint_of(conninfo), marked(conninfo), locks(conninfo)) == (complete, NAMES, 0)
