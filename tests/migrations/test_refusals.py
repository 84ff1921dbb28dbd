"""A migration or a roll-back that would not be safe is refused and changes nothing."""

import psycopg
import pytest
from psycopg import sql

from api.postgres import migrate
from tests.migrations.steps import NAMES, contents, fingerprint_of, marked, roll_back
from tests.support import Database, one


@pytest.fixture
def conninfo(empty: Database) -> str:
    return empty.url(empty.admin)


def untouched(conninfo: str) -> bool:
    with psycopg.connect(conninfo) as database:
        return one(database, "select to_regnamespace('ledger') is null")[0]


@pytest.mark.parametrize("attribute", ["createrole", "createdb", "replication", "bypassrls", "superuser"])
def test_refuses_roles_that_may_do_more_than_they_are_for(template, empty, conninfo, attribute):
    with empty.connect(empty.admin) as admin:
        admin.execute(f"alter role ledger_api {attribute}")
        try:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="ledger_api"):
                migrate.migrate(conninfo)
        finally:
            admin.execute(f"alter role ledger_api no{attribute}")
    assert untouched(conninfo)


def test_refuses_an_owner_who_may_log_in(template, empty, conninfo):
    with empty.connect(empty.admin) as admin:
        admin.execute("alter role ledger_owner login")
        try:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="ledger_owner"):
                migrate.migrate(conninfo)
        finally:
            admin.execute("alter role ledger_owner nologin")
    assert untouched(conninfo)


@pytest.mark.parametrize("right", ["execute on functions", "select on tables", "usage on sequences"])
def test_refuses_default_privileges_on_its_objects(template, empty, conninfo, right):
    with empty.connect(empty.admin) as admin:
        admin.execute(f"alter default privileges for role ledger_owner grant {right} to ledger_test_stranger")
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="default privileges"):
            migrate.migrate(conninfo)
        assert untouched(conninfo)
        admin.execute(f"alter default privileges for role ledger_owner revoke {right} from ledger_test_stranger")
    assert migrate.migrate(conninfo) == NAMES


def test_refuses_a_database_that_is_not_in_utf_8(server, template):
    with server.database("postgres").connect("postgres") as admin:
        admin.execute("create database ledger_latin template template0 encoding latin1 locale 'C'")
        try:
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="UTF8"):
                migrate.migrate(server.database("ledger_latin").url("postgres"))
        finally:
            admin.execute("drop database ledger_latin with (force)")


def test_refuses_yoyo_tables_of_another_owner(template, empty, conninfo):
    with empty.connect(empty.admin) as admin:
        admin.execute("grant create on schema public to ledger_test_stranger")
    with empty.connect("ledger_test_stranger") as stranger:
        stranger.execute("create table yoyo_lock (locked int default 1, ctime timestamp, pid int)")
        stranger.execute("grant all on yoyo_lock to public")
    with pytest.raises(migrate.MigrationError, match="yoyo_lock of ledger_test_stranger"):
        migrate.migrate(conninfo)
    assert untouched(conninfo)


def test_names_the_session_that_holds_the_lock_after_a_time_out(empty, conninfo, monkeypatch):
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", 0.2)
    with empty.connect(empty.admin, application_name="somebody") as holder:
        holder.execute("select pg_advisory_lock(%s)", [migrate.LOCK_KEY])
        with pytest.raises(migrate.MigrationError, match=f"{holder.info.backend_pid}.*somebody"):
            migrate.migrate(conninfo)
    assert migrate.migrate(conninfo) == NAMES


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_does_not_drop_a_ledger_that_its_snapshot_may_not_show(migrated, level):
    conninfo = migrated.url(migrated.admin)
    with migrated.connect(migrated.admin) as admin:
        name = sql.Identifier(admin.info.dbname)
        setting = sql.SQL("alter database {} set default_transaction_isolation = {}").format(name, sql.Literal(level))
        admin.execute(setting)
    # As psql runs the file; `ledger migrate` and its like choose READ COMMITTED themselves.
    script = (migrate.MIGRATIONS / f"{NAMES[0]}.rollback.sql").read_text()
    with (
        pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="READ COMMITTED"),
        psycopg.connect(conninfo) as session,
    ):
        session.execute(script.encode())
    assert not untouched(conninfo)


def test_sql_is_ascii_so_that_any_client_can_send_it():
    for file in sorted((migrate.RESOURCES / "db").rglob("*.sql")):
        assert file.read_text(encoding="utf-8").isascii(), file


@pytest.mark.parametrize(
    "statement",
    [
        "create table ledger.site_notes (note text); alter table ledger.site_notes owner to ledger_test_deployer",
        "create function ledger.ours() returns int language sql as 'select 1'",
        "insert into ledger.idempotency_keys values (0, 'key', 'create_group', sha256('a'), '{}')",
    ],
    ids=["a table of the site", "a function of the site", "a row of no group"],
)
def test_objects_that_the_baseline_did_not_create_are_not_dropped(template, migrated, statement):
    conninfo = migrated.url(migrated.admin)
    with psycopg.connect(conninfo) as database:
        database.execute(statement)
    before = fingerprint_of(conninfo), contents(conninfo), marked(conninfo)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refusal:
        roll_back(conninfo, NAMES[0])
    assert refusal.value.diag.message_hint
    assert (fingerprint_of(conninfo), contents(conninfo), marked(conninfo)) == before
