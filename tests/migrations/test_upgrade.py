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
    put_data_in,
    python,
)
from tests.support import one

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

# Each entry, the group's total after it, and what a look at that moment finds.
TOTALS = """
select
  e.id,
  sum(case e.kind when 'join' then e.amount when 'exit' then -e.amount else 0 end)
    over (partition by e.group_id order by e.created_at, e.id),
  ledger.group_total(e.group_id, at_entry => e.id)
from ledger.entries as e
"""


@pytest.fixture
def old(conninfo: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of release 0.1, filled by its own functions."""
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "MIGRATIONS", RELEASE_0_1)
        assert migrate.migrate(conninfo) == upgrade.REPLACED
    put_data_in(conninfo)
    return conninfo


def answers(conninfo: str) -> tuple:
    with psycopg.connect(conninfo, autocommit=True) as database:
        ids = one(database, "select array_agg(id order by id) from ledger.list_participants(1)")[0]
        return one(database, ANSWERS.format(ids[0], ids[1]))


def state(conninfo: str) -> tuple:
    return fingerprint_of(conninfo), contents(conninfo), marked(conninfo)


def test_its_schema_is_the_baseline_s_and_no_value_is_lost(old, complete):
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


def test_its_history_goes_on(old):
    migrate.migrate(old)
    with psycopg.connect(old, autocommit=True) as database:
        ((zoe,),) = database.execute("select id from ledger.join_group(1, 'zoe', 7)").fetchall()
        database.execute("select ledger.exit_group(1, %s)", [zoe])
        totals = database.execute(TOTALS).fetchall()
        assert len(totals) == 20
        assert [row for row in totals if row[1] != row[2]] == []
        assert database.execute("select * from ledger.verify()").fetchall() == []


def test_the_feed_of_one_without_entries_gets_a_number(conninfo, complete, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "MIGRATIONS", RELEASE_0_1)
        migrate.migrate(conninfo)
    assert migrate.migrate(conninfo) == NAMES
    assert fingerprint_of(conninfo) == complete
    with psycopg.connect(conninfo) as database:
        assert one(database, "select max(generation) > 1 from ledger.feeds") == (True,)


def test_one_that_lacks_a_migration_is_refused(conninfo, monkeypatch):
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
    before = state(old)
    run = python(DIE_BEFORE_THE_COMMIT, old)
    run.communicate(timeout=60)
    assert run.returncode == -signal.SIGKILL
    assert state(old) == before
    assert migrate.migrate(old) == NAMES
    assert fingerprint_of(old) == complete


def test_gives_up_on_a_lock_and_changes_nothing(old, tmp_path, monkeypatch):
    script = tmp_path / "0.1.sql"
    script.write_text(upgrade.SCRIPT.read_text().replace("lock_timeout = '5s'", "lock_timeout = '100ms'"))
    monkeypatch.setattr(upgrade, "SCRIPT", script)
    before = state(old)
    with psycopg.connect(old) as session:
        session.execute("select ledger.join_group(2, 'zoe', 7)")
        with pytest.raises(migrate.MigrationError, match="lock"):
            migrate.migrate(old)
        session.rollback()
    before[1].update(participants_id_seq=contents(old)["participants_id_seq"])
    before[1].update(entries_id_seq=contents(old)["entries_id_seq"])
    assert state(old) == before


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
