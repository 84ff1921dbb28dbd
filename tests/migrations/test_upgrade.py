"""A database of release 0.1 is upgraded to the baseline of 1.0, and keeps every row and every answer."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from api.postgres import migrate, upgrade
from tests.migrations.steps import (
    NAMES,
    RELEASE_0_1,
    ROOT,
    apply_before,
    contents,
    fingerprint_of,
    lost,
    marked,
    python,
)
from tests.support import in_background, one, until

RENAMED = {"group_counters": "group_total_shards", "group_totals": "group_total_history"}

DIE_BEFORE_THE_COMMIT = """
import os, signal, sys
from api.postgres import migrate

migrate.Backend.mark_one = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
migrate.migrate(sys.argv[1])
"""

# An answer to each kind of request with an idempotency key, as a repeated request gets it.
ANSWERS = """
select
  (select to_json(r) from ledger.create_group('keyed', 'a') as r),
  (select to_json(r) from ledger.join_group(1, 'zoe', 7, 'b') as r),
  (select to_json(r) from ledger.transfer(1, {0}, {1}, 1, 'key') as r),
  (select to_json(r) from ledger.transfer_all(1, '[{{"from": {0}, "to": {1}, "amount": 1}}]', 'c') as r),
  (select to_json(r) from ledger.rename_group(1, 'ETX', 'd') as r)
"""

# Each entry, and the group's total after it, as stored and as of that moment.
TOTALS = """
select
  e.id,
  sum(case e.kind when 'join' then e.amount when 'deposit' then e.amount when 'exit' then -e.amount else 0 end)
    over (partition by e.group_id order by e.created_at, e.id),
  ledger.group_total(e.group_id, at_entry => e.id)
from ledger.entries as e
"""


def answers(conninfo: str) -> tuple:
    with psycopg.connect(conninfo, autocommit=True) as database:
        ids = one(database, "select array_agg(id order by id) from ledger.list_participants(1)")[0]
        return one(database, ANSWERS.format(ids[0], ids[1]))


def state(conninfo: str) -> tuple:
    return fingerprint_of(conninfo), contents(conninfo), marked(conninfo)


def test_its_schema_equals_the_baseline_and_no_value_is_lost(old, complete):
    values, cursors = contents(old), feed(old)
    assert len(values["entries"]) == 18
    assert migrate.migrate(old) == NAMES
    assert marked(old) == NAMES
    assert fingerprint_of(old) == complete
    assert lost({RENAMED.get(table, table): rows for table, rows in values.items()}, contents(old)) == []
    assert feed(old) == cursors
    with psycopg.connect(old, autocommit=True) as database:
        assert database.execute("select * from ledger.verify()").fetchall() == []
    assert migrate.migrate(old) == []


def feed(conninfo: str) -> list[tuple]:
    with psycopg.connect(conninfo, autocommit=True) as database:
        return database.execute("select * from ledger.read_feed()").fetchall()


def test_repeated_requests_get_the_same_answers(old):
    first = answers(old)
    migrate.migrate(old)
    again = answers(old)
    assert [answer | {"replayed": True} for answer in first] == [*again]


def test_it_can_be_used_after_the_upgrade(old):
    migrate.migrate(old)
    with psycopg.connect(old, autocommit=True) as database:
        ((zoe,),) = database.execute("select id from ledger.join_group(1, 'zoe', 7)").fetchall()
        database.execute("select ledger.exit_group(1, %s)", [zoe])
        totals = database.execute(TOTALS).fetchall()
        assert len(totals) == 20
        assert [row for row in totals if row[1] != row[2]] == []
        assert database.execute("select * from ledger.verify()").fetchall() == []


def test_the_feed_of_a_ledger_without_entries_gets_a_number(conninfo, complete, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "MIGRATIONS", RELEASE_0_1)
        migrate.migrate(conninfo)
    assert migrate.migrate(conninfo) == NAMES
    assert fingerprint_of(conninfo) == complete
    with psycopg.connect(conninfo) as database:
        assert one(database, "select max(generation) > 1 from ledger.feeds") == (True,)


def test_a_database_that_lacks_a_migration_is_refused(conninfo, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "MIGRATIONS", RELEASE_0_1)
        apply_before(conninfo, "0018.inline-fingerprints")
    before = state(conninfo)
    with pytest.raises(migrate.MigrationError, match=r"0018\.inline-fingerprints"):
        migrate.migrate(conninfo)
    assert state(conninfo) == before


def test_plain_yoyo_is_refused_with_a_hint(old):
    before = state(old)
    database = old.replace("postgresql://", "postgresql+psycopg://")
    command = [Path(sys.executable).parent / "yoyo", "apply", "-d", database]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert done.returncode != 0
    assert re.search(r"HINT: .*ledger migrate", done.stderr)
    assert state(old) == before


def test_a_run_that_is_killed_changes_nothing_and_can_run_again(old, complete):
    with psycopg.connect(old, autocommit=True) as admin:
        upgrade.build_index(admin)  # which is left where it is
    before = state(old)
    run = python(DIE_BEFORE_THE_COMMIT, old)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert state(old) == before
    assert migrate.migrate(old) == NAMES
    assert fingerprint_of(old) == complete


def test_gives_up_on_a_lock_and_changes_nothing(old, monkeypatch):
    monkeypatch.setattr(upgrade, "LOCK_PATIENCE", 0.2)
    monkeypatch.setattr(upgrade, "build_index", lambda connection: None)  # it would wait for the session below
    before = state(old)
    with psycopg.connect(old) as session:
        session.execute("select from ledger.settlements")  # the last but two of the locks
        with pytest.raises(migrate.MigrationError, match="lock"):
            migrate.migrate(old)
        session.rollback()
    assert state(old) == before


def test_requests_are_answered_between_its_attempts_to_lock(old, monkeypatch):
    monkeypatch.setattr(upgrade, "build_index", lambda connection: None)
    tries = []

    def pause(seconds: float) -> None:
        """Send a request for a table that the attempt has locked, and release the last lock."""
        tries.append(seconds)
        with psycopg.connect(old, options="-c lock_timeout=1s") as reader:
            assert one(reader, "select count(*) from ledger.list_participants(1)") == (2,)
        holder.rollback()

    monkeypatch.setattr(upgrade.time, "sleep", pause)
    with psycopg.connect(old) as holder:
        holder.execute("select from ledger.settlements")
        assert migrate.migrate(old) == NAMES
    assert tries == [upgrade.LOCK_PAUSE]


def test_it_waits_for_a_vacuum_while_requests_are_answered(old, monkeypatch):
    """An automatic vacuum is cancelled after deadlock_timeout; a manual one is waited for."""
    monkeypatch.setattr(upgrade, "build_index", lambda connection: None)
    monkeypatch.setattr(upgrade, "LOCK_PATIENCE", 0)  # the first try succeeds
    with psycopg.connect(old) as vacuum, psycopg.connect(old, autocommit=True) as service:
        # The lock of a vacuum.
        vacuum.execute("lock table ledger.participants in share update exclusive mode")
        with in_background(lambda: migrate.migrate(old)) as applied:
            until(lambda: waits_for_a_lock(service), "the upgrade to wait")
            service.execute("set lock_timeout = '1s'")
            service.execute("select ledger.join_group(1, 'zoe', 7)")
            vacuum.rollback()
    assert applied == [NAMES]


def waits_for_a_lock(observer: psycopg.Connection) -> bool:
    query = "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'lock table')"
    return one(observer, query) == (True,)


def test_readers_of_a_view_cause_no_deadlock(old):
    """A reader locks a view and then its tables; so does the upgrade."""
    with psycopg.connect(old) as migration, psycopg.connect(old, autocommit=True) as observer:
        migration.execute(upgrade.LOCK)
        with in_background(lambda: read(old)) as rows:
            until(lambda: waiting(observer), "the reader to wait")
            migration.execute("alter view ledger.current_participants set (security_barrier = false)")
            migration.rollback()
    assert rows == [[(2,)]]


def read(conninfo: str) -> list[tuple]:
    with psycopg.connect(conninfo) as reader:
        return reader.execute("select count(*) from ledger.list_participants(1)").fetchall()


def waiting(observer: psycopg.Connection) -> bool:
    query = (
        "select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query ~ 'list_participants')"
    )
    return one(observer, query) == (True,)


def test_the_index_of_a_run_that_was_ended_is_built_again(old, complete):
    with psycopg.connect(old, autocommit=True) as admin:
        admin.execute("set role ledger_owner")
        admin.execute(upgrade.INDEX.read_bytes())
        admin.execute("reset role")
        admin.execute(
            "update pg_index set indisvalid = false where indexrelid = 'ledger.entries_by_group_and_metadata'::regclass"
        )
    migrate.migrate(old)
    assert fingerprint_of(old) == complete


def test_an_object_of_the_site_that_depends_on_a_replaced_function_is_named(old):
    with psycopg.connect(old, autocommit=True) as admin:
        admin.execute("create view public.ours as select * from ledger.list_groups()")
    schema = fingerprint_of(old)["functions"]
    with pytest.raises(migrate.MigrationError, match=r"ours depends on .*list_groups"):
        migrate.migrate(old)
    assert fingerprint_of(old)["functions"] == schema
    with psycopg.connect(old, autocommit=True) as admin:
        admin.execute("drop view public.ours")
    assert migrate.migrate(old) == NAMES


def test_a_reset_leaves_an_empty_ledger_of_this_release(old, complete):
    migrate.reset(old)
    assert fingerprint_of(old) == complete
    assert marked(old) == NAMES


def test_rights_on_functions_that_stay_are_kept(old):
    with psycopg.connect(old, autocommit=True) as admin:
        admin.execute("grant execute on function ledger.health, ledger.transfer_each to ledger_reader")
    migrate.migrate(old)
    with psycopg.connect(old) as admin:
        query = "select has_function_privilege('ledger_reader', %s::regproc, 'execute')"
        for function, right in (("health", True), ("transfer_batch", True), ("transfer", False)):
            assert one(admin, query, [f"ledger.{function}"]) == (right,)
