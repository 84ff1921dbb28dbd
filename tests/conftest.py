"""One PostgreSQL for the whole run, a template that the migrations and the functions' files build, and clones of it.

    ledger    a connection as the serving role, in a transaction that is rolled back: for rules
    owner     the same as the superuser: for privileges, and for a look behind the functions
    database  a database of the test's own, for what must commit
    empty     a database of the test's own without any migration

PG chooses the server's major version: 18 (default) and 16 come with the wheel, 15 is Debian's.
After every test the books of the database that it used must be right.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
import pytest
import sqlparse
from psycopg import sql
from pytest_postgresql import factories
from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from api.postgres import embedded, migrate
from db import freeze
from tests.support import Database, discrepancies, one, until

VERSION = int(os.environ.get("PG") or 18)
MEMORY = "/dev/shm"
ROOM = 4 << 30  # bytes; a run uses fewer


def fits_into_memory() -> bool:
    """Whether there is a file system in memory that programs can be run from, with room for the files of a run."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    return os.access(MEMORY, os.W_OK) and not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= ROOM


# Most of a clone's time, and of a server's start, is the writing of files that are removed right after.
if "TMPDIR" not in os.environ and fits_into_memory():
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY

# Roles that tests log in as: the serving one, one that reads, the bridge's, a stranger, and one that deploys but is no
# superuser.
ROLES = {
    embedded.SERVICE: "login in role ledger_api",
    "ledger_test_reader": "login in role ledger_reader",
    "ledger_test_bridge": "login in role ledger_bridge",
    "ledger_test_stranger": "login",
    "ledger_test_deployer": "login createrole createdb",
}


@dataclass(frozen=True)
class Server:
    """Where the server is, in the words of pytest-postgresql."""

    data: Path
    template_dbname: str = "template1"
    maintenance_dbname: str = "postgres"
    user: str = embedded.ADMIN
    password: str | None = None
    port: int = 5432
    options: str = ""

    @property
    def host(self) -> str:
        return str(self.data / "run")

    def database(self, name: str) -> Database:
        return Database(lambda role: embedded.url(self.data, role, name), embedded.SERVICE, embedded.ADMIN)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with (
        tempfile.TemporaryDirectory(prefix="ledger-") as data,
        embedded.running(Path(data), VERSION, roles=list(ROLES)),
    ):
        server = Server(Path(data))
        with server.database("postgres").connect(embedded.ADMIN) as admin:
            # A function with a doubtful line does not get through a test.
            admin.execute("load 'plpgsql'")  # before 18 its settings are not known otherwise
            admin.execute("alter system set plpgsql.extra_errors = 'all'")
            # Nothing survives the run, so nothing needs to reach the disk.
            admin.execute("alter system set fsync = off")
            admin.execute("alter system set log_lock_waits = on")
            admin.execute("select pg_reload_conf()")
        yield server


def build_template(*, host: str, port: int, user: str, dbname: str, **_: object) -> None:
    migrate.migrate(psycopg.conninfo.make_conninfo(host=host, port=port, user=user, dbname=dbname))
    with psycopg.connect(host=host, port=port, user=user, dbname=dbname, autocommit=True) as admin:
        # Tests call functions as they are edited, frozen in a migration or not.
        with admin.transaction():
            admin.execute(freeze.edits())
        for role, attributes in ROLES.items():
            admin.execute(sql.SQL("create role {} " + attributes).format(sql.Identifier(role)))


# yoyo splits the migrations at each look at them, which takes longer than to apply them; their text stays the same.
sqlparse.split = cache(sqlparse.split)

template = factories.postgresql_noproc(depends_on="server", dbname="ledger_test", load=[build_template])


@pytest.fixture(scope="session")
def cloning(server: Server) -> Iterator[psycopg.Connection]:
    """The session that clones the template and drops the clones: a login for each step costs as much as the step."""
    with server.database(server.maintenance_dbname).connect(server.user) as connection:
        yield connection


@pytest.fixture
def database(server: Server, template: NoopExecutor, cloning: psycopg.Connection) -> Iterator[Database]:
    with cloned(cloning, "ledger_test", template.template_dbname):
        database = server.database("ledger_test")
        yield database
        with database.connect(embedded.ADMIN) as admin:
            assert discrepancies(admin) == []


@pytest.fixture
def empty(server: Server, cloning: psycopg.Connection) -> Iterator[Database]:
    with cloned(cloning, "ledger_empty"):
        yield server.database("ledger_empty")


@pytest.fixture(scope="session")
def shared(server: Server, template: NoopExecutor) -> Iterator[Database]:
    """The database of the tests that roll back."""
    with janitor(server, "ledger_shared", template.template_dbname):
        yield server.database("ledger_shared")


@pytest.fixture(scope="session")
def connection(shared: Database) -> Iterator[psycopg.Connection]:
    """The superuser's connection that the tests use one after another: logging in for each costs more than most do."""
    with shared.connect(shared.admin, autocommit=False) as connection:
        yield connection


@pytest.fixture
def owner(connection: psycopg.Connection) -> Iterator[psycopg.Connection]:
    yield connection
    try:
        if connection.info.transaction_status != psycopg.pq.TransactionStatus.INERROR:
            connection.execute("reset session authorization")
            assert discrepancies(connection) == []
    finally:
        # The next test finds a session without settings, plans, temporary tables, locks or a role of this one.
        connection.rollback()
        connection.autocommit = True
        connection.execute("discard all")
        connection.autocommit = False


@pytest.fixture
def ledger(owner: psycopg.Connection) -> psycopg.Connection:
    owner.execute(sql.SQL("set session authorization {}").format(sql.Identifier(embedded.SERVICE)))
    return owner


@contextmanager
def cloned(cloning: psycopg.Connection, name: str, template: str | None = None) -> Iterator[None]:
    """Have a copy of a migrated database for a while, or an empty one."""
    clone, original = sql.Identifier(name), sql.Identifier(template or "template1")
    cloning.execute(sql.SQL("create database {} template {}").format(clone, original))
    try:
        if template:
            # A copy of a database has its rows, but not the rights on the database.
            cloning.execute(sql.SQL("revoke temporary on database {} from public").format(clone))
        yield
    finally:
        # DROP DATABASE sleeps for a tenth of a second where it finds a session, and one that was closed is just ending.
        sessions = "select count(*) from pg_stat_activity where datname = %s"
        with suppress(AssertionError):
            until(lambda: one(cloning, sessions, [name]) == (0,), "its sessions to end", seconds=0.05)
        cloning.execute(sql.SQL("drop database {} with (force)").format(clone))


def janitor(server: Server, name: str, template: str) -> DatabaseJanitor:
    return DatabaseJanitor(user=server.user, host=server.host, port=server.port, dbname=name, template_dbname=template)
