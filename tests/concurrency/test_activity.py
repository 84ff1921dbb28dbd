"""activity beside open transactions: how far the feed is behind, and how long each has been open."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support import Database, create, join, one, transfer, until


@pytest.fixture
def seeing(admin: psycopg.Connection) -> Iterator[None]:
    """The owner may see since when transactions of others are open."""
    admin.execute("grant pg_read_all_stats to ledger_owner")
    yield
    admin.execute("revoke pg_read_all_stats from ledger_owner")


def lag(ledger: psycopg.Connection) -> float:
    return one(ledger, "select feed_lag from ledger.activity()")[0]


def oldest(ledger: psycopg.Connection) -> float | None:
    return one(ledger, "select oldest_transaction from ledger.activity()")[0]


def test_the_feed_lags_by_the_age_of_the_oldest_entry_held_back(ledger, session, group, alice, bob):
    until(lambda: lag(ledger) == 0, "the feed to have everything")
    other = create(ledger, "other")
    holder = session()
    join(holder, group, "dora")
    assert lag(ledger) == 0
    join(ledger, other, "carol")
    transfer(ledger, group, alice, bob, 1)
    first = lag(ledger)
    assert 0 < first < lag(ledger)
    holder.commit()
    until(lambda: lag(ledger) == 0, "the feed to have everything")


def test_entries_restored_from_another_server_do_not_count_as_lag(ledger, admin, group, alice):
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")
        admin.execute("update ledger.entries set xid = (xid::text::numeric + 1000000)::text::xid8")
        admin.execute("select ledger.restart_feed()")
    until(lambda: lag(ledger) == 0, "the feed to have everything")


def test_the_oldest_transaction_is_the_one_that_has_been_open_for_longest(seeing, ledger, session, admin):
    assert oldest(ledger) == 0
    first, second = session(), session()
    one(first, "select 1")
    one(second, "select 1")
    began = "select extract(epoch from clock_timestamp() - xact_start)::float8 from pg_stat_activity where pid = %s"
    for longest in (first, second):
        (before,) = one(admin, began, [longest.info.backend_pid])
        found = oldest(ledger)
        (after,) = one(admin, began, [longest.info.backend_pid])
        assert 0 < before <= found <= after
        longest.rollback()
    assert oldest(ledger) == 0


def test_a_transaction_of_another_database_is_not_ours(seeing, ledger, database: Database):
    with psycopg.connect(database.url(database.admin), dbname="postgres") as elsewhere:
        one(elsewhere, "select pg_current_xact_id()::text")
        assert oldest(ledger) == 0
        elsewhere.rollback()


def test_reports_null_for_transactions_that_it_cannot_see(ledger, session):
    one(session(), "select 1")
    assert oldest(ledger) is None
