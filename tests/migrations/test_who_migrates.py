"""Which roles may migrate: no superuser is needed, and the migrating role owns no object."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from api.postgres import embedded, migrate
from tests.conftest import Server
from tests.migrations.steps import NAMES, fingerprint, fingerprint_of, marked
from tests.support import Database

ROLES = ["deployer", "colleague", "outsider"]
OWNERS = """
select distinct pg_get_userbyid(owner)
from (
  select nspowner from pg_namespace where nspname in ('ledger', 'ledger_internal')
  union all select relowner from pg_class where relnamespace = 'ledger'::regnamespace
  union all select proowner from pg_proc where pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
  union all select typowner from pg_type where typnamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
) as objects (owner)
"""


@pytest.fixture(scope="module")
def cluster(server: Server) -> Iterator[Path]:
    """A server of its own, since roles belong to the cluster and here they must not exist yet."""
    with server.database("postgres").connect(embedded.ADMIN) as admin:
        version = admin.info.server_version // 10000
    with (
        tempfile.TemporaryDirectory(prefix="ledger-") as data,
        embedded.running(Path(data), version, roles=ROLES),
    ):
        with psycopg.connect(embedded.url(Path(data), database="postgres"), autocommit=True) as admin:
            admin.execute("alter system set fsync = off")
            admin.execute("select pg_reload_conf()")
            # May create roles / becomes a member of existing roles / neither.
            admin.execute("create role deployer login createrole")
            admin.execute("create role colleague login")
            admin.execute("create role outsider login")
        yield Path(data)


@pytest.fixture
def admin(cluster: Path) -> Iterator[psycopg.Connection]:
    with psycopg.connect(embedded.url(cluster, database="postgres"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def owned(cluster: Path, admin: psycopg.Connection):
    """Create databases that a role owns; drop them and the ledger's roles in the end."""
    made = []

    def make(owner: str) -> Database:
        name = f"owned_{len(made)}"
        made.append(name)
        admin.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(name), sql.Identifier(owner)))
        return Database(lambda role: embedded.url(cluster, role, name), embedded.SERVICE, embedded.ADMIN)

    yield make
    for name in made:
        admin.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
    for role in ("ledger_api", "ledger_bridge", "ledger_reader", "ledger_owner"):
        admin.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))


def assert_complete(database: Database, complete: dict[str, list[tuple]]) -> None:
    with database.connect(database.admin) as admin:
        assert fingerprint(admin) == complete
        assert admin.execute(OWNERS).fetchall() == [("ledger_owner",)]
    assert marked(database.url(database.admin)) == NAMES


@pytest.fixture
def complete(shared: Database) -> dict[str, list[tuple]]:
    return fingerprint_of(shared.url(shared.admin))


def test_a_role_with_createrole_migrates_its_own_database_and_a_second_one(owned, complete):
    first, second = owned("deployer"), owned("deployer")
    for database in (first, second):
        assert migrate.migrate(database.url("deployer")) == NAMES
        assert_complete(database, complete)
        with database.connect("deployer") as deployer:
            deployer.execute("select ledger.create_group('ETH')")
    migrate.reset(second.url("deployer"))
    assert_complete(second, complete)
    with first.connect("deployer") as deployer:
        assert deployer.execute("select name from ledger.list_groups()").fetchall() == [("ETH",)]


TEMPORARY = "select has_database_privilege('outsider', current_database(), 'temporary')"


def test_the_owner_of_the_database_revokes_temporary_tables(owned):
    database = owned("deployer")
    with database.connect(database.admin) as admin:
        assert admin.execute(TEMPORARY).fetchone() == (True,)
        migrate.migrate(database.url("deployer"))
        assert admin.execute(TEMPORARY).fetchone() == (False,)


def test_a_role_that_does_not_own_the_database_can_migrate(owned, admin):
    migrate.migrate(owned("deployer").url("deployer"))
    database = owned("deployer")
    admin.execute("grant ledger_owner to colleague")
    with database.connect(database.admin) as superuser:
        superuser.execute("grant create on schema public to colleague")
        superuser.execute(f"grant create on database {superuser.info.dbname} to colleague")
        migrate.migrate(database.url("colleague"))
        # ledger serve refuses such a login: tests/running/test_start_refusals.py.
        assert superuser.execute(TEMPORARY).fetchone() == (True,)


def test_a_role_with_createrole_rolls_back_and_migrates_again(owned, complete):
    database = owned("deployer")
    migrate.migrate(database.url("deployer"))
    with migrate.locked(database.url("deployer")) as backend:
        backend.rollback_migrations(backend.to_rollback(migrate.shipped()))
    assert not any(fingerprint_of(database.url(database.admin)).values())
    assert migrate.migrate(database.url("deployer")) == NAMES
    assert_complete(database, complete)


def test_the_roles_have_no_rights_of_their_own(owned, admin):
    migrate.migrate(owned("deployer").url("deployer"))
    assert admin.execute(
        """
        select rolname, rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
        from pg_roles where rolname ~ '^ledger_' order by rolname
        """
    ).fetchall() == [("ledger_api", False), ("ledger_bridge", False), ("ledger_owner", False), ("ledger_reader", False)]


def test_a_member_of_the_owner_migrates_where_the_roles_exist(owned, admin, complete):
    migrate.migrate(owned("deployer").url("deployer"))
    database = owned("colleague")
    admin.execute("grant ledger_owner to colleague")
    assert migrate.migrate(database.url("colleague")) == NAMES
    assert_complete(database, complete)


def test_a_database_of_another_role_needs_create_on_it_and_on_public(owned, admin, complete):
    migrate.migrate(owned("deployer").url("deployer"))
    database = owned("deployer")
    admin.execute("grant ledger_owner to colleague")

    with pytest.raises(migrate.MigrationError, match=r"colleague.*schema public"):
        migrate.migrate(database.url("colleague"))
    with database.connect(database.admin) as superuser:
        assert superuser.execute("select to_regclass('yoyo_lock'), to_regnamespace('ledger')").fetchone() == (
            None,
            None,
        )
        superuser.execute("grant create on schema public to colleague")

    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        migrate.migrate(database.url("colleague"))
    with database.connect(database.admin) as superuser:
        superuser.execute(f"grant create on database {superuser.info.dbname} to colleague")
    assert migrate.migrate(database.url("colleague")) == NAMES
    assert_complete(database, complete)


def test_a_role_with_createrole_needs_a_grant_of_roles_that_another_created(owned, admin, complete):
    migrate.migrate(owned(embedded.ADMIN).url(embedded.ADMIN))
    database = owned("deployer")
    # From PostgreSQL 16 on, only a role's creator and members with admin option can grant it.
    if admin.info.server_version >= 160000:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="ledger_owner"):
            migrate.migrate(database.url("deployer"))
        admin.execute("grant ledger_owner to deployer")
    assert migrate.migrate(database.url("deployer")) == NAMES
    assert_complete(database, complete)


def test_a_role_without_these_rights_changes_nothing(owned, admin):
    database = owned("outsider")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        migrate.migrate(database.url("outsider"))
    with database.connect(database.admin) as superuser:
        assert not any(fingerprint(superuser).values())
    assert admin.execute("select from pg_roles where rolname ~ '^ledger_'").fetchall() == []
    assert marked(database.url(database.admin)) == []


def test_respects_a_run_of_another_role_whose_sessions_are_hidden(owned, admin, monkeypatch):
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 0.1)
    database = owned("deployer")
    with database.connect("outsider") as session:
        with migrate.Backend(database.url("deployer"), "yoyo") as backend:
            backend.init_database()
            backend.connection.execute("insert into yoyo_lock values (1, clock_timestamp() at time zone 'utc', 4242)")
        with pytest.raises(migrate.MigrationError, match=rf"\b{session.info.backend_pid}\b"):
            migrate.migrate(database.url("deployer"))
        # The running service is another role as well, and no run.
        session.execute("set application_name = 'ledger serve'")
        assert migrate.migrate(database.url("deployer")) == NAMES
