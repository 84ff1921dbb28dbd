"""Migrations and commands work under all settings of the database or role, and report each wait."""

import psycopg
import pytest
from psycopg import sql

from api.admin import schema, seed, verify
from api.postgres import migrate, sessions
from tests.migrations.steps import NAMES, fingerprint_of, marked, put_data_in, roll_back
from tests.migrations.test_yoyo_command import listed, yoyo
from tests.running.commands import environment
from tests.support import Database, discrepancies, in_background, one, until

# Settings that change how a migration's SQL is read or run, each far from PostgreSQL's default.
ODD = {
    "search_path": "ledger, public",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "1ms",
    "lock_timeout": "1ms",
    "idle_in_transaction_session_timeout": "1ms",
    "idle_session_timeout": "1ms",
    "standard_conforming_strings": "off",
    "check_function_bodies": "off",
    "default_table_access_method": "no_such_method",
    "default_tablespace": "pg_global",
    "row_security": "off",
    "client_min_messages": "debug5",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Pacific/Apia",
    "quote_all_identifiers": "on",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "xmloption": "document",
    "client_encoding": "latin1",
    "session_replication_role": "replica",
}
# Settings that end a session or a statement before it can change them.
DEADLY = {
    "statement_timeout",
    "idle_session_timeout",
    "idle_in_transaction_session_timeout",
    "default_table_access_method",
}
YOYO_TABLES = """
select n.nspname, c.relname from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where c.relname like any (array['yoyo\\_%', '\\_yoyo\\_%']) and c.relkind = 'r' order by 1, 2
"""
IN_PUBLIC = [("public", name) for name in sorted(migrate.YOYO_TABLES)]


@pytest.fixture
def conninfo(template, empty: Database) -> str:
    return empty.url(empty.admin)


def alter(database: Database, name: str, value: str, what: str = "database") -> None:
    """Set a setting for every later session of the database, or of the superuser in it."""
    with database.connect(database.admin) as admin:
        where = sql.Identifier(admin.info.dbname)
        if what == "role":
            where = sql.SQL("{} in database {}").format(sql.Identifier(database.admin), where)
        shown = sql.SQL(value) if name == "search_path" else sql.Literal(value)
        admin.execute(sql.SQL("alter {} {} set {} = {}").format(sql.SQL(what), where, sql.Identifier(name), shown))


@pytest.fixture
def odd(empty: Database, template) -> Database:
    for name, value in ODD.items():
        if name not in DEADLY:
            alter(empty, name, value)
    for name in DEADLY - {"default_table_access_method"}:
        alter(empty, name, "2s")
    return empty


def test_migrates_and_rolls_back_the_same_under_odd_settings(odd, shared):
    conninfo = odd.url(odd.admin)
    assert migrate.migrate(conninfo) == NAMES
    assert migrate.migrate(conninfo) == []
    complete = fingerprint_of(shared.url(shared.admin))
    with sessions.connect(conninfo, "test") as session:
        assert session.execute(YOYO_TABLES).fetchall() == IN_PUBLIC
    with psycopg.connect(conninfo) as session:
        # The fingerprint shows text, which settings change, too.
        neutral = sql.SQL("alter database {} reset all").format(sql.Identifier(session.info.dbname))
        saved = session.execute(
            "select unnest(setconfig) from pg_db_role_setting as s join pg_database as d on d.oid = s.setdatabase "
            "where d.datname = current_database() and s.setrole = 0"
        ).fetchall()
        assert len(saved) >= len(ODD) - 1
    roll_back(conninfo, NAMES[-1])
    assert migrate.migrate(conninfo) == NAMES[-1:]
    with psycopg.connect(conninfo, autocommit=True) as session:
        session.execute(neutral)
    assert fingerprint_of(conninfo) == complete


def test_every_command_works_under_odd_settings(odd):
    conninfo = odd.url(odd.admin)
    migrate.migrate(conninfo)
    seed.seed(conninfo)
    assert [step for _, step in seed.seed_many(conninfo, 1, 3)] == [0]
    steps = [*verify.verify(conninfo)]
    assert sum(step.rows for step in steps if step.part == "entries") == 10
    assert [found for step in steps for found in step.discrepancies] == []
    migrate.reset(conninfo)
    with sessions.connect(conninfo, "test") as session:
        assert one(session, "select count(*) from ledger.list_groups()") == (0,)
        # The constraints' triggers are on, though the database switches them off.
        assert one(session, "show session_replication_role") == ("origin",)


@pytest.mark.parametrize("what", ["database", "role"])
def test_a_search_path_that_begins_with_the_ledger_changes_nothing(migrated, what):
    conninfo = migrated.url(migrated.admin)
    alter(migrated, "search_path", "ledger, public", what)
    assert migrate.migrate(conninfo) == []
    with migrated.connect(migrated.admin) as admin:
        assert admin.execute(YOYO_TABLES).fetchall() == IN_PUBLIC


def make_second_set(conninfo: str, schema: str, applied: list[str]) -> None:
    """Create yoyo's tables in another schema, with marks, as runs did that followed search_path."""
    with migrate.Backend(conninfo, "test", schema) as backend:
        backend.init_database()
        backend.ensure_internal_schema_updated()
        for migration in migrate.shipped():
            if migration.id in applied:
                backend.mark_one(migration)


def test_the_empty_second_set_of_a_failed_run_is_dropped(migrated, caplog):
    conninfo = migrated.url(migrated.admin)
    make_second_set(conninfo, "ledger", [])
    alter(migrated, "search_path", "ledger, public")
    assert migrate.migrate(conninfo) == []
    with migrated.connect(migrated.admin) as admin:
        assert admin.execute(YOYO_TABLES).fetchall() == IN_PUBLIC
    assert "schema ledger" in caplog.text


def test_the_only_set_is_moved_out_of_the_schema_that_a_reset_drops(migrated, caplog):
    conninfo = migrated.url(migrated.admin)
    with migrated.connect(migrated.admin) as admin:
        for name in migrate.YOYO_TABLES:
            admin.execute(sql.SQL("alter table {} set schema ledger").format(sql.Identifier(name)))
    assert migrate.migrate(conninfo) == []
    with migrated.connect(migrated.admin) as admin:
        assert admin.execute(YOYO_TABLES).fetchall() == IN_PUBLIC
    assert marked(conninfo) == NAMES
    assert "moved" in caplog.text


def test_two_sets_that_contradict_each_other_are_refused(migrated):
    conninfo = migrated.url(migrated.admin)
    make_second_set(conninfo, "ledger", NAMES[:3])
    with pytest.raises(migrate.MigrationError, match="public and ledger"):
        migrate.migrate(conninfo)
    assert marked(conninfo) == NAMES


def test_a_set_in_a_schema_of_the_administrators_choice_stays_in_use(empty, conninfo):
    with empty.connect(empty.admin) as admin:
        admin.execute("create schema operations")
    make_second_set(conninfo, "operations", [])
    alter(empty, "search_path", "operations, public")
    with migrate.Backend(conninfo, "test", "operations") as backend:
        backend.apply_migrations(backend.to_apply(migrate.shipped()[:3]))
    assert migrate.migrate(conninfo) == NAMES[3:]
    assert migrate.migrate(conninfo) == []
    with empty.connect(empty.admin) as admin:
        assert {schema for schema, _ in admin.execute(YOYO_TABLES).fetchall()} == {"operations"}


def test_yoyos_own_command_does_not_follow_search_path(empty, conninfo):
    info = psycopg.conninfo.conninfo_to_dict(conninfo)
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
    variables = environment(**{variable: str(info[name]) for variable, name in names.items()})
    assert yoyo(variables, "apply").returncode == 0
    alter(empty, "search_path", "ledger, public")
    assert yoyo(variables, "rollback").returncode == 0
    assert yoyo(variables, "apply").returncode == 0
    assert listed(yoyo(variables, "list").stdout) == [("A", name) for name in NAMES]
    assert migrate.migrate(conninfo) == []
    with empty.connect(empty.admin) as admin:
        assert admin.execute(YOYO_TABLES).fetchall() == IN_PUBLIC


# Waiting


@pytest.mark.parametrize("command", [migrate.migrate, migrate.reset])
def test_a_read_only_database_is_refused_at_once(migrated, command, monkeypatch):
    conninfo = migrated.url(migrated.admin)
    alter(migrated, "default_transaction_read_only", "on")
    monkeypatch.setattr(migrate, "lock_row", None)  # comes later
    with pytest.raises(migrate.MigrationError, match=r"read-only.*default_transaction_read_only.*database"):
        command(conninfo)


def test_the_error_shows_why_yoyos_lock_cannot_be_written(migrated):
    conninfo = migrated.url(migrated.admin)
    with migrated.connect(migrated.admin) as admin:
        admin.execute("alter table yoyo_lock add constraint full_disk check (locked is null) not valid")
    with pytest.raises(psycopg.errors.CheckViolation, match="full_disk"):
        migrate.migrate(conninfo)


def test_names_the_run_that_it_waits_for(empty, conninfo, caplog):
    with empty.connect(empty.admin, application_name="somebody") as holder:
        holder.execute("select pg_advisory_lock(%s)", [migrate.LOCK_KEY])
        with in_background(lambda: migrate.migrate(conninfo)) as outcome:
            until(lambda: "waiting for another run" in caplog.text)
            assert f"{holder.info.backend_pid} ({empty.admin}, somebody)" in caplog.text
            holder.execute("select pg_advisory_unlock(%s)", [migrate.LOCK_KEY])
        assert outcome == [NAMES]


def test_names_the_sessions_that_may_hold_yoyos_lock(migrated, caplog):
    conninfo = migrated.url(migrated.admin)
    with migrated.connect(migrated.admin, application_name="yoyo itself") as holder:
        holder.execute("insert into yoyo_lock values (1, clock_timestamp() at time zone 'utc', 4242)")
        with in_background(lambda: migrate.migrate(conninfo)) as outcome:
            until(lambda: "waiting for a run of yoyo" in caplog.text)
            assert "yoyo itself" in caplog.text
            holder.execute("delete from yoyo_lock")
        assert outcome == [[]]


def test_a_reset_gives_up_on_a_ledger_in_use(migrated, monkeypatch):
    conninfo = migrated.url(migrated.admin)
    put_data_in(conninfo)
    monkeypatch.setattr(migrate, "DROP_TIMEOUT", 1)
    with psycopg.connect(conninfo) as reader:
        reader.execute("select count(*) from ledger.entries")
        with pytest.raises(migrate.MigrationError, match="nothing was changed"):
            migrate.reset(conninfo)
    assert marked(conninfo) == NAMES
    with migrated.connect(migrated.admin) as admin:
        assert discrepancies(admin) == []
        assert one(admin, "select count(*) > 0 from ledger.entries") == (True,)


@pytest.mark.parametrize("command", [seed.seed, lambda conninfo: [*verify.verify(conninfo)]])
def test_a_command_gives_up_on_a_lock(migrated, monkeypatch, command):
    conninfo = migrated.url(migrated.admin)
    monkeypatch.setitem(sessions.LIMITS, "lock_timeout", "100ms")
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", 0.1)
    with psycopg.connect(conninfo) as holder:
        holder.execute("lock table ledger.groups in access exclusive mode")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            command(conninfo)
