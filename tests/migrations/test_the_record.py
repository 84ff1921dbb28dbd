"""0004.the-record gives history to what was written before it, also between a roll-back and its coming back."""

import psycopg
import pytest

from api import embedded
from tests.migrations.steps import apply, apply_before, put_data_in, roll_back
from tests.support import Database, one

RECORD = "0004.the-record"

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
def conninfo(template, empty: Database) -> str:
    return empty.url(embedded.ADMIN)


def check(database: psycopg.Connection, entries: int) -> None:
    assert database.execute("select * from ledger.verify()").fetchall() == []
    totals = database.execute(TOTALS).fetchall()
    assert len(totals) == entries
    assert [row for row in totals if row[1] != row[2]] == []
    listed = "select count(*) from ledger.groups as g cross join lateral ledger.list_entries(g.id)"
    assert one(database, listed) == one(database, "select count(*) from ledger.read_feed()") == (entries,)
    assert one(database, "select count(*) from ledger.entries where kind = 'exit'") == one(
        database, "select count(*) from ledger.settlements"
    )


def test_what_was_written_before_has_history(conninfo):
    apply_before(conninfo, RECORD)
    put_data_in(conninfo)
    apply(conninfo, RECORD)
    with psycopg.connect(conninfo, autocommit=True) as database:
        check(database, 12)
        exits = database.execute("select id from ledger.list_entries(1, settled => false)").fetchall()
        assert database.execute("select reference from ledger.settle_exit(1, %s, '0x5f')", exits[0]).fetchone() == (
            "0x5f",
        )
        database.execute("select ledger.join_group(1, 'dave', 7)")
        check(database, 13)


def test_what_was_written_between_a_roll_back_and_its_coming_back_has_history(conninfo):
    apply_before(conninfo, RECORD)
    apply(conninfo, RECORD)
    put_data_in(conninfo)
    roll_back(conninfo, RECORD)
    with psycopg.connect(conninfo, autocommit=True) as database:
        ((dave,),) = database.execute("select id from ledger.join_group(1, 'dave', 7)").fetchall()
        ((erin,),) = database.execute("select id from ledger.join_group(1, 'erin', 7)").fetchall()
        database.execute("select ledger.transfer(1, %s, %s, 5)", [dave, erin])
        database.execute("select ledger.exit_group(1, %s)", [dave])
    apply(conninfo, RECORD)
    with psycopg.connect(conninfo, autocommit=True) as database:
        check(database, 22)
        database.execute("select ledger.exit_group(1, %s)", [erin])
        check(database, 23)
        # What had been noted is there again.
        assert one(database, "select count(*) from ledger.record where reference = '0x5f'") == (2,)
        assert one(database, "select count(*) from ledger.record where reverses is not null") == (2,)
