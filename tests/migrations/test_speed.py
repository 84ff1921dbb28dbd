"""Migration 0005 replaces an index of the entries, which must not stop the writes of a large ledger."""

import psycopg
import pytest

from api.postgres import migrate
from tests.migrations.steps import apply, apply_before, roll_back
from tests.support import one

NAME = "0005.speed"
NEW = {"entries_transfers_by_time", "entries_others_by_kind"}
BY_KIND = "create index concurrently entries_by_kind on ledger.entries (group_id, kind, created_at, id)"
VALID = """
select c.relname
from pg_index as i
join pg_class as c on c.oid = i.indexrelid
where i.indrelid = 'ledger.entries'::regclass and i.indisvalid and c.relname = any(%s)
"""


@pytest.fixture
def large(conninfo: str) -> str:
    """A ledger of the migrations before, with as many entries as statistics say."""
    apply_before(conninfo, NAME)
    claim_entries(conninfo)
    return conninfo


def claim_entries(conninfo: str) -> None:
    with psycopg.connect(conninfo) as admin:
        admin.execute("update pg_class set reltuples = 2000000 where oid = 'ledger.entries'::regclass")


def valid(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as admin:
        return {name for (name,) in admin.execute(VALID, [[*NEW, "entries_by_kind"]])}


def test_it_builds_no_index_of_a_large_ledger_itself(large):
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        apply(large, NAME)
    assert "0005.speed.index.sql" in refused.value.diag.message_hint
    assert valid(large) == {"entries_by_kind"}


def test_ledger_migrate_builds_them_before_it(large):
    with psycopg.connect(large) as admin:
        # What a run that was ended left behind.
        admin.execute("create index entries_transfers_by_time on ledger.entries (id)")
        admin.execute(
            "update pg_index set indisvalid = false where indexrelid = 'ledger.entries_transfers_by_time'::regclass"
        )
    claim_entries(large)  # again: the index has counted them
    assert NAME in migrate.migrate(large)
    assert valid(large) == NEW
    with psycopg.connect(large) as admin:
        (definition,) = one(admin, "select pg_get_indexdef('ledger.entries_transfers_by_time'::regclass)")
    assert "(group_id, created_at, id)" in definition


def test_it_is_rolled_back_once_the_index_of_before_is_there(large):
    migrate.migrate(large)
    claim_entries(large)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as refused:
        roll_back(large, NAME)
    assert BY_KIND in refused.value.diag.message_hint
    assert valid(large) == NEW
    with psycopg.connect(large, autocommit=True) as admin:
        admin.execute("set role ledger_owner")
        admin.execute(BY_KIND)
    roll_back(large, NAME)
    assert valid(large) == {"entries_by_kind"}
