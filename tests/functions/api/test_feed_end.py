"""feed_end: the cursor after which exactly those entries come that could not be read before."""

import psycopg
import pytest

from tests.functions.api.test_read_feed import (
    FAR_AHEAD,
    FEED_OF_AN_EARLIER_RELEASE,
    LONG_AGO,
    as_superuser,
    number,
    read,
    restart,
)
from tests.functions.conftest import behind
from tests.support import call, one, refused, transfer

HIGHEST = 2**63 - 1
# The oldest open transaction is the test's own, unless one of the server's is older.
OLDEST = "pg_snapshot_xmin(pg_current_snapshot())"
END_AND_OLDEST = f"select ledger.feed_end(), {OLDEST}::text::bigint"


@pytest.fixture(autouse=True)
def neighbour(ledger: psycopg.Connection, committed: tuple[int, object]) -> int:
    """A group whose entries are in the feed as well, which is that of an earlier release, before all transactions."""
    as_superuser(ledger, "delete from ledger.feeds")
    as_superuser(ledger, FEED_OF_AN_EARLIER_RELEASE)
    return committed[0]


def end(ledger: psycopg.Connection) -> str | None:
    return one(ledger, "select ledger.feed_end()")[0]


def test_is_the_last_place_before_the_oldest_open_transaction(ledger, group, alice, bob):
    transfer(ledger, group, alice, bob, 1)
    cursor, oldest = one(ledger, END_AND_OLDEST)
    assert cursor == f"1-{oldest - 1}-{HIGHEST}"


def test_what_can_be_read_is_before_it_and_the_rest_after_it(ledger, group, alice, bob):
    old = transfer(ledger, group, alice, bob, 1)
    number(ledger, {old: LONG_AGO})
    cursor = end(ledger)
    assert old in read(ledger)
    assert read(ledger, cursor) == []
    new = [transfer(ledger, group, alice, bob, 1) for _ in range(2)]
    before = int(cursor.split("-")[1])
    # As if they had been made by the last transaction before it, which has ended, and by the first one after it.
    number(ledger, {new[0]: before, new[1]: before + 1})
    assert new[0] in read(ledger)
    assert new[1] not in read(ledger)
    assert read(ledger, cursor) == []


def test_an_empty_feed_that_is_older_than_every_open_transaction_has_an_end(ledger):
    with behind(ledger), ledger.transaction(force_rollback=True):
        ledger.execute("set local session_replication_role = replica")
        ledger.execute("delete from ledger.entries")
        assert call(ledger, "read_feed") == []
        assert read(ledger, end(ledger)) == []


def test_a_feed_that_is_as_old_as_an_open_transaction_ends_at_its_beginning(ledger, group, alice, bob):
    as_superuser(ledger, f"update ledger.feeds set first_xid = {OLDEST}")
    assert end(ledger) is None
    assert read(ledger, end(ledger)) == []


def test_a_restored_feed_that_is_as_old_as_an_open_transaction_ends_with_what_was_restored(ledger, group, alice, bob):
    restored = transfer(ledger, group, alice, bob, 1)
    number(ledger, {restored: FAR_AHEAD})
    generation = restart(ledger)
    cursor = end(ledger)
    assert cursor == f"{generation}-{HIGHEST}-{restored}"
    assert read(ledger)[-1] == restored
    assert read(ledger, cursor) == []
    # The first new entry has the number of the transaction with which the feed begins: it comes after the end.
    first = transfer(ledger, group, bob, alice, 1)
    as_superuser(ledger, "update ledger.feeds set first_xid = '4' where generation = %s", [generation])
    number(ledger, {first: 4})
    assert read(ledger, cursor) == [first]


def test_a_restored_feed_ends_behind_its_own_entries(ledger, group, alice, bob):
    restored = transfer(ledger, group, alice, bob, 1)
    number(ledger, {restored: FAR_AHEAD})
    generation = restart(ledger)
    as_superuser(ledger, "update ledger.feeds set first_xid = '4' where generation = %s", [generation])
    new = transfer(ledger, group, bob, alice, 1)
    number(ledger, {new: 5})
    cursor, oldest = one(ledger, END_AND_OLDEST)
    assert cursor == f"{generation}-{oldest - 1}-{HIGHEST}"
    assert read(ledger)[-2:] == [restored, new]
    assert read(ledger, cursor) == []


def test_a_restart_ends_it(ledger, group, alice, bob):
    cursor = end(ledger)
    restart(ledger)
    refused(ledger, "LG009", "select * from ledger.read_feed(%s)", [cursor])


def test_is_refused_where_the_feed_is_of_another_server(ledger):
    as_superuser(ledger, "update ledger.feeds set system_identifier = system_identifier - 1")
    refused(ledger, "LG009", "select ledger.feed_end()")
    restart(ledger)
    assert read(ledger, end(ledger)) == []
