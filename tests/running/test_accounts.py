"""Started by root: the server, the web workers and root's commands cannot abuse each other's files and rights."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded
from tests.running.commands import ROOT, Service, command, done, refusal, serving, users_of
from tests.running.conftest import copy, room
from tests.support import Database, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WEB, SERVER = "_ledger_web", "_ledger"

# The statements of an attacker who runs code in a web worker, as its OS user; each on a connection of its own.
ATTEMPT = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
import psycopg
from api.server import privileges
privileges.become(sys.argv[2])
url, *statements = sys.argv[3:]
outcomes = []
for statement in statements:
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)
        outcomes.append("done")
    except psycopg.Error as error:
        outcomes.append(error.sqlstate or str(error))
print(json.dumps(outcomes))
"""


def attempts(account: str, url: str, *statements: str) -> list[str]:
    """Run statements in the database as an OS user, and return `done` or the error of each."""
    command = [sys.executable, "-c", ATTEMPT, json.dumps([str(ROOT), *sys.path]), account, url, *statements]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def attempted(account: str, url: str) -> str:
    """Log in to the database as an OS user, and return `done` or the error."""
    (outcome,) = attempts(account, url, "select 1")
    return outcome


def as_account(account: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    user = pwd.getpwnam(account)
    return subprocess.run(
        command, user=user.pw_uid, group=user.pw_gid, extra_groups=[], cwd="/", capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def served(seeded: Path) -> Iterator[Path]:
    """The folder of the service that several tests look at."""
    with room() as path:
        yield copy(seeded, path / "data")
        assert users_of(path / "data") == []


@pytest.fixture(scope="module")
def service(served: Path) -> Iterator[Service]:
    with serving(LEDGER_DATA=served) as service:
        yield service


def status(pid: int, name: str) -> list[str]:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return line.split()[1:]


def test_a_worker_has_only_its_accounts_rights(service: Service) -> None:
    account = pwd.getpwnam(WEB)
    for worker in service.workers:
        assert status(worker, "Uid") == [str(account.pw_uid)] * 4
        assert status(worker, "Gid") == [str(account.pw_gid)] * 4
        assert status(worker, "Groups") == []
        assert status(worker, "NoNewPrivs") == ["1"]
        assert {int(mask, 16) for name in ("CapPrm", "CapEff") for mask in status(worker, name)} == {0}
        assert os.getsid(worker) != os.getsid(service.process.pid)  # so that it cannot type into root's terminal
    assert pwd.getpwnam(SERVER).pw_uid != account.pw_uid
    assert service.answers()


def test_a_worker_that_died_is_replaced_by_one_without_rights(service: Service) -> None:
    (first,) = service.workers
    os.kill(first, 9)
    until(lambda: service.workers not in ([], [first]), "another worker")
    (second,) = service.workers
    until(lambda: status(second, "Uid")[0] == str(pwd.getpwnam(WEB).pw_uid), "it to give up its rights")
    until(service.answers, "it to answer")


def test_the_workers_account_can_log_in_as_the_serving_login_only(service: Service, served: Path) -> None:
    assert attempted(WEB, embedded.url(served, embedded.SERVICE)) == "done"
    for role in (embedded.ADMIN, "ledger_owner", "ledger_api", "ledger_bridge", "ledger_reader", WEB, SERVER, "root"):
        assert "Peer authentication failed" in attempted(WEB, embedded.url(served, role)), role


FORBIDDEN = [
    "set role postgres",
    "set role ledger_owner",
    "set session authorization postgres",
    "update ledger.entries set amount = 1",
    "select count(*) from ledger.participants",
    "select count(*) from ledger.api_keys",
    "create table ledger.mine ()",
    "create table public.mine ()",
    "create temporary table mine ()",
    "create function ledger.mine() returns int language sql return 1",
    "copy (select 1) to program 'id'",
    "copy (select 1) to '/tmp/mine'",
    "select pg_read_file('postgresql.conf')",
    "select lo_import('/etc/passwd')",
    "load 'auto_explain'",
    "alter system set fsync = off",
    "alter role postgres set search_path = ledger",
    "create role mine",
    "select pg_reload_conf()",
    "create extension dblink",
    "select ledger.create_api_key('mine', 'admin')",
]


@pytest.fixture(scope="module")
def outcomes(service: Service, served: Path) -> dict[str, str]:
    """What became of each of these statements, on a connection of its own."""
    return dict(zip(FORBIDDEN, attempts(WEB, embedded.url(served, embedded.SERVICE), *FORBIDDEN), strict=True))


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_workers_account_cannot_rewrite_the_ledger(outcomes: dict[str, str], statement: str) -> None:
    assert outcomes[statement] in {"42501", "0A000", "55P02", "42883"}


def test_the_workers_account_reads_and_writes_no_file_of_the_server(service: Service, served: Path) -> None:
    for path in (
        served,
        served / "pgdata",
        served / "log",
        served / "run",
        served / "pgdata" / "pg_hba.conf",
        served / "lock",
    ):
        assert as_account(WEB, "test", "-w", path).returncode == 1, path
        assert as_account(WEB, "test", "-r", path).returncode == 1, path


def test_the_servers_account_can_change_nothing_that_root_uses(service: Service, served: Path) -> None:
    for path in (served, served / "lock", served / "start.lock"):
        assert as_account(SERVER, "test", "-w", path).returncode == 1, path
    for name in ("pgdata", "run", "log"):
        assert as_account(SERVER, "mv", served / name, served / "elsewhere").returncode != 0
    assert as_account(SERVER, "touch", served / "new").returncode != 0


@pytest.fixture
def secret(unused: Path) -> Iterator[Path]:
    """A file that root alone may read."""
    path = unused.with_name("secret")
    path.write_text("only for root\n")
    path.chmod(0o600)
    yield path
    assert path.read_text() == "only for root\n"
    assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, 0o600)


def planted(path: Path, target: Path) -> None:
    """Put a link in the place of a file, as the server's account could."""
    owner = pwd.getpwnam(SERVER)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    os.lchown(path, owner.pw_uid, owner.pw_gid)


@pytest.mark.parametrize(
    "name",
    [
        "pgdata/PG_VERSION",
        "pgdata/postgresql.conf",
        "pgdata/pg_ident.conf",
        "pgdata/pg_hba.conf",
        "pgdata/ledger.conf",
        "pgdata/postmaster.pid",
        "log/start.log",
        "log/postgresql-2026-11-27-000000.log",
    ],
)
def test_root_follows_no_link_of_the_servers_account(fresh: Path, secret: Path, name: str) -> None:
    planted(fresh / name, secret)
    answer = command("migrate", LEDGER_DATA=fresh)
    assert "only for root" not in answer.stdout + answer.stderr
    if name == "pgdata/postmaster.pid":
        (fresh / name).unlink()


def link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def second_name(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    os.link(target, path)


def pipe(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def of_an_earlier_release(data: Path) -> None:
    """Make a folder as it was when the server's account owned all of it."""
    owner = pwd.getpwnam(SERVER)
    for path in [data, *data.rglob("*")]:
        os.lchown(path, owner.pw_uid, owner.pw_gid)
    data.chmod(0o700)


def test_a_folder_of_an_earlier_release_is_taken_over(fresh: Path) -> None:
    of_an_earlier_release(fresh)
    done("seed", LEDGER_DATA=fresh)
    assert {path.name for path in (fresh, *fresh.iterdir()) if path.lstat().st_uid == 0} == {
        fresh.name,
        "lock",
        "start.lock",
    }
    assert done("verify", LEDGER_DATA=fresh).startswith("0 discrepancies in ")


def test_a_server_that_an_earlier_release_started_is_joined(fresh: Path) -> None:
    with embedded.running(fresh):
        (fresh / "run" / ".s.PGSQL.5432").chmod(0o700)
        (fresh / "run").chmod(0o700)
        ident = fresh / "pgdata" / "pg_ident.conf"
        ident.write_text("".join(line for line in ident.read_text().splitlines(True) if WEB not in line))
        with psycopg.connect(embedded.url(fresh), autocommit=True) as admin:
            admin.execute("select pg_reload_conf()")
        of_an_earlier_release(fresh)
        with serving(LEDGER_DATA=fresh) as service:
            assert service.ask("GET", "/api/groups") == (200, {"data": []})


@pytest.mark.parametrize("plant", [link, second_name, pipe])
@pytest.mark.parametrize("name", ["lock", "start.lock"])
def test_a_file_in_the_place_of_a_lock_is_not_changed(
    fresh: Path, secret: Path, name: str, plant: Callable[[Path, Path], None]
) -> None:
    of_an_earlier_release(fresh)
    plant(fresh / name, secret)
    refusal("url", LEDGER_DATA=fresh)


@pytest.mark.parametrize("name", ["pgdata", "run", "log"])
def test_a_link_in_the_place_of_a_folder_is_refused(fresh: Path, secret: Path, name: str) -> None:
    of_an_earlier_release(fresh)
    shutil.move(fresh / name, fresh.with_name("elsewhere")) if (fresh / name).exists() else None
    (fresh / name).symlink_to(secret.parent)
    assert f"{fresh / name} is a link" in refusal("url", LEDGER_DATA=fresh)


@pytest.mark.parametrize(("owner", "group", "mode"), [(0, 0, 0o777), ("nobody", 0, 0o755), (0, SERVER, 0o775)])
def test_a_folder_that_others_may_replace_is_refused(
    fresh: Path, owner: str | int, group: str | int, mode: int
) -> None:
    before = fresh.parent.stat()
    shutil.chown(fresh.parent, owner, group)
    fresh.parent.chmod(mode)
    assert f"may rename what lies in {fresh.parent}" in refusal("url", LEDGER_DATA=fresh)
    os.chown(fresh.parent, before.st_uid, before.st_gid)
    fresh.parent.chmod(stat.S_IMODE(before.st_mode))


def test_a_lock_open_to_everybody_delays_no_start(fresh: Path) -> None:
    descriptor = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert embedded.web_account() == pwd.getpwnam(WEB)
        done("migrate", LEDGER_DATA=fresh)
    finally:
        os.close(descriptor)


def test_a_pipe_in_the_place_of_a_file_delays_root_for_a_limited_time(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fresh / "pgdata" / "PG_VERSION").unlink()
    os.mkfifo(fresh / "pgdata" / "PG_VERSION")
    monkeypatch.setattr(embedded, "_READ_PATIENCE", 0.5)
    with pytest.raises(embedded.EmbeddedError, match="has not ended"), embedded.running(fresh):
        pass


def test_programs_that_no_earlier_release_made_are_removed(fresh: Path, secret: Path) -> None:
    planted = fresh / "programs-18"
    planted.mkdir()
    (planted / "stamp").write_text("18")
    (fresh / "programs-18.new").symlink_to(secret.parent)
    of_an_earlier_release(fresh)
    done("migrate", LEDGER_DATA=fresh)
    assert not list(fresh.glob("programs-*"))


def test_root_runs_no_program_that_the_servers_account_may_write(fresh: Path) -> None:
    """An earlier release had a copy of PostgreSQL that belonged to the server's account, and ran psql from it."""
    old = fresh / "postgresql-18"
    shutil.copytree(embedded.binaries(), old / "pginstall18" / "bin")
    (old / "pginstall18" / "bin" / "psql").write_text(f"#!/bin/sh\ntouch {fresh.parent}/was-run\n")
    of_an_earlier_release(fresh)
    done("psql", "-c", "select 1", LEDGER_DATA=fresh)
    assert not (fresh.parent / "was-run").exists()


def test_programs_in_a_private_folder_of_root_work(fresh: Path, tmp_path: Path) -> None:
    """Neither account can read the virtual environment; a worker loads its modules while it is root."""
    tmp_path.chmod(0o700)
    shutil.copytree(ROOT / "api", tmp_path / "api")
    for name in ("db", "seeds"):
        shutil.copytree(ROOT / name, tmp_path / name)
    wheel = embedded.binaries().parents[1]
    for path in wheel.parent.glob(f"{wheel.name}*"):
        shutil.copytree(path, tmp_path / path.name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
    program = tmp_path / "ledger"
    program.write_text(
        f"#!{sys.executable}\nimport sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom api.cli import main; main()\n"
    )
    program.chmod(0o700)
    with serving(program=program, LEDGER_DATA=fresh, PYTHONPATH=tmp_path) as service:
        assert service.answers()
        status, body = service.ask("POST", "/api/groups", {"name": "ETH"})
        assert status == 201, body
        group = body["data"]["id"]
        assert service.ask("POST", f"/api/groups/{group}/participants", {"username": "alice", "amount": 5})[0] == 201
        assert service.ask("POST", f"/api/groups/{group}/participants", {"username": "alice", "amount": 5})[0] == 422
        assert service.ask("GET", f"/api/groups/{group}/entries")[0] == 200
        assert service.ask("GET", "/api/entries?wait=1")[0] == 200
        assert service.ask("GET", "/api/nothing")[0] == 404
        with psycopg.connect(embedded.url(fresh), autocommit=True) as admin:
            admin.execute("alter function ledger.get_group rename to no_group")
            assert service.ask("GET", f"/api/groups/{group}")[0] == 500  # a traceback is written
            admin.execute("alter function ledger.no_group rename to get_group")
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ledger_service'")
        assert service.answers()
        assert "ModuleNotFoundError" not in service.said()
        assert "PermissionError" not in service.said()
        assert "UndefinedFunction" in service.said()
        service.errors.truncate(0)
        assert (fresh / "programs-18").stat().st_uid == 0


def test_a_worker_gets_none_of_roots_variables(data: Path) -> None:
    with serving(LEDGER_DATA=data, CLOUD_SECRET="hidden-word") as service:
        (worker,) = service.workers
        assert b"hidden-word" not in Path(f"/proc/{worker}/environ").read_bytes()


def test_a_worker_does_not_get_the_administrators_login(database: Database) -> None:
    admin = database.url(database.admin) + "&password=hidden-word"
    with serving(DATABASE_URL=database.url(database.service), LEDGER_ADMIN_URL=admin) as service:
        (worker,) = service.workers
        assert b"hidden-word" not in Path(f"/proc/{worker}/environ").read_bytes()
