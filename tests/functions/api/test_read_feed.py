"""read_feed: an order that can be resumed, cursors, and their end after a restore from a backup.

A transaction's own entries are in no feed before it has ended. Here the superuser gives them the numbers of
transactions that have.
"""

import psycopg
import pytest

from tests.functions.conftest import behind
from tests.support import call, create, join, one, refused, transfer

LONG_AGO = 10  # the number of a transaction that has ended
FAR_AHEAD = 9 * 10**17  # the number of one that this server has not begun

NO_CURSORS = [
    "", " ", "x", "1", "1-1", "1-1-", "1-1-1-1", "-1-1-1", "+1-1-1", " 1-1-1", "1-1-1 ", "1-1-1\n", "1_0-1-1",
    "0x1-1-1", "1-1-x", "1-1-0", "1-1-9223372036854775808", "9999999999-1-1", "1-18446744073709551616-1", "1-1-１",
    "1-1.0-1", "1-08-1", "1-010-1",
]  # fmt: skip


FEED_OF_AN_EARLIER_RELEASE = """
insert into ledger.feeds (generation, system_identifier, last_restored, first_xid)
select 1, c.system_identifier, 0, '0' from pg_control_system() as c
"""


@pytest.fixture(autouse=True)
def neighbour(ledger: psycopg.Connection, committed: tuple[int, object]) -> int:
    """A group whose entries are in the feed as well; their numbers are changed too.

    The feed is that of a ledger of an earlier release: its number is 1, and no transaction is older than it.
    """
    as_superuser(ledger, "delete from ledger.feeds")
    as_superuser(ledger, FEED_OF_AN_EARLIER_RELEASE)
    return committed[0]


def read(ledger: psycopg.Connection, *arguments: object) -> list[int]:
    """The ids of a page's entries."""
    return [row[2] for row in call(ledger, "read_feed", *arguments)]


def pages(ledger: psycopg.Connection, size: int, after: str | None = None) -> list[int]:
    """The ids of all entries, page by page."""
    found = []
    while page := call(ledger, "read_feed", after, size):
        assert len(page) <= size
        found += [row[2] for row in page]
        after = page[-1][0]
    return found


def as_superuser(ledger: psycopg.Connection, query: str, arguments: object = ()) -> None:
    """Run a statement that triggers refuse."""
    with behind(ledger):
        ledger.execute("set local session_replication_role = replica")
        ledger.execute(query, arguments)
        ledger.execute("set local session_replication_role = origin")


def number(ledger: psycopg.Connection, xids: dict[int, int]) -> None:
    """Say which transactions wrote the entries."""
    for entry, xid in xids.items():
        as_superuser(ledger, "update ledger.entries set xid = %s::text::xid8 where id = %s", [xid, entry])


def restart(ledger: psycopg.Connection) -> int:
    with behind(ledger):
        return one(ledger, "select ledger.restart_feed()")[0]


@pytest.fixture
def entries(ledger: psycopg.Connection, group: int, alice: int, bob: int) -> list[int]:
    """Entries of three groups, in the order in which the feed must have them."""
    other = create(ledger, "other")
    carol, dora = join(ledger, other, "carol"), join(ledger, other, "dora")
    made = [
        transfer(ledger, group, alice, bob, 1),
        transfer(ledger, other, carol, dora, 1),
        transfer(ledger, group, bob, alice, 1),
        transfer(ledger, other, dora, carol, 1),
    ]
    as_superuser(ledger, "update ledger.entries set xid = %s::text::xid8", [LONG_AGO])
    number(ledger, {made[0]: LONG_AGO + 9, made[1]: LONG_AGO + 5, made[2]: LONG_AGO + 5, made[3]: LONG_AGO + 7})
    with behind(ledger):
        joined = ledger.execute("select id from ledger.entries where kind = 'join' order by id").fetchall()
    return [entry for (entry,) in joined] + [made[1], made[2], made[3], made[0]]


def test_is_ordered_by_transaction_then_by_id_across_all_groups(ledger, entries):
    assert len(entries) == 10
    assert read(ledger) == read(ledger, None) == read(ledger, None, 1000) == entries


@pytest.mark.parametrize("size", [1, 2, 3, 9, 10, 11])
def test_pages_have_each_entry_once(ledger, entries, size):
    assert pages(ledger, size) == entries


def test_resumes_after_any_entry(ledger, entries):
    cursors = [row[0] for row in call(ledger, "read_feed")]
    for place, cursor in enumerate(cursors, 1):
        assert read(ledger, cursor) == entries[place:]
        assert read(ledger, cursor, 1) == entries[place : place + 1]


def test_shows_an_entry_as_the_record_does(ledger, entries, group, alice, bob):
    undone = one(ledger, "select id from ledger.reverse_transfer(%s, %s, null, '{\"why\": 1}')", [group, entries[-1]])[
        0
    ]
    number(ledger, {undone: LONG_AGO + 20})
    feed = call(ledger, "read_feed")
    with behind(ledger):
        record = ledger.execute("select r.* from ledger.record as r").fetchall()
    assert sorted(row[1:] for row in feed) == sorted(record)
    assert feed[-1][1:6] == (group, undone, "transfer", bob, alice)


@pytest.mark.parametrize(("max_rows", "shown"), [(None, 10), (0, 0), (-1, 0), (1, 1), (2**31 - 1, 10)])
def test_returns_at_most_max_rows(ledger, entries, max_rows, shown):
    assert read(ledger, None, max_rows) == entries[:shown]


def test_returns_1000_rows_by_default(ledger, group, alice, bob):
    lines = ", ".join(f'{{"from": {alice}, "to": {bob}, "amount": 1}}' for _ in range(100))
    for _ in range(10):
        ledger.execute(f"select ledger.transfer_all(%s, '[{lines}]')", [group])
        ledger.execute("select ledger.transfer(%s, %s, %s, 100)", [group, bob, alice])
    as_superuser(ledger, "update ledger.entries set xid = %s::text::xid8", [LONG_AGO])
    first = call(ledger, "read_feed")
    assert len(first) == len(read(ledger, None, None)) == 1000
    assert len(read(ledger, first[-1][0])) == 14


def test_uncommitted_entries_are_in_no_feed(ledger, entries, group, alice, bob):
    transfer(ledger, group, alice, bob, 1)
    assert read(ledger) == entries


def test_an_empty_page_has_no_row_and_its_cursor_can_be_resumed(ledger, entries, group, alice, bob):
    cursor = call(ledger, "read_feed")[-1][0]
    assert read(ledger, cursor) == []
    new = transfer(ledger, group, alice, bob, 1)
    number(ledger, {new: LONG_AGO + 10})
    assert read(ledger, cursor) == [new]


@pytest.mark.parametrize("cursor", NO_CURSORS)
def test_refuses_a_malformed_cursor(ledger, cursor):
    refused(ledger, "LG001", "select * from ledger.read_feed(%s)", [cursor])


@pytest.mark.parametrize(
    "cursor", ["2-10-1", "0-10-1", "999999999-10-1", f"1-{FAR_AHEAD}-1", "1-9999999999999999999-1"]
)
def test_refuses_a_cursor_of_another_feed_or_of_the_future(ledger, entries, cursor):
    refused(ledger, "LG009", "select * from ledger.read_feed(%s)", [cursor])


def test_refuses_a_cursor_of_a_transaction_that_has_not_begun(ledger, entries):
    (begun,) = one(ledger, "select pg_snapshot_xmax(pg_current_snapshot())::text")
    refused(ledger, "LG009", "select * from ledger.read_feed(%s)", [f"1-{begun}-1"])
    assert read(ledger, f"1-{int(begun) - 1}-1") == []


@pytest.mark.parametrize("entry", [1, 2**63 - 1])
def test_refuses_a_cursor_of_a_transaction_before_the_feed(ledger, entries, entry):
    as_superuser(ledger, "update ledger.feeds set first_xid = %s::text::xid8", [LONG_AGO + 100])
    refused(ledger, "LG009", "select * from ledger.read_feed(%s)", [f"1-{LONG_AGO + 99}-{entry}"])
    assert read(ledger, f"1-{LONG_AGO + 100}-{entry}") == []


# a restored backup


@pytest.fixture
def moved(ledger: psycopg.Connection, entries: list[int]) -> list[int]:
    """As if a dump had been restored here: all entries but two have numbers that this server has yet to reach."""
    as_superuser(ledger, "update ledger.feeds set system_identifier = system_identifier - 1")
    as_superuser(
        ledger,
        "update ledger.entries set xid = (xid::text::numeric + %s)::text::xid8 where id <> all (%s)",
        [FAR_AHEAD, entries[:2]],
    )
    return entries


@pytest.mark.parametrize("cursor", [None, "1-10-1", f"1-{FAR_AHEAD}-1", "2-10-1"])
def test_refuses_to_read_a_feed_from_another_server(ledger, moved, cursor):
    refused(ledger, "LG009", "select * from ledger.read_feed(%s)", [cursor])


def test_after_a_restart_restored_entries_come_first(ledger, moved, group, alice, bob):
    assert restart(ledger) == 2
    assert read(ledger) == moved
    new = [transfer(ledger, group, alice, bob, 1) for _ in range(3)]
    assert read(ledger) == moved
    # Numbered below all that was restored, and in another order than their ids; the feed began at the lowest of them.
    as_superuser(ledger, "update ledger.feeds set first_xid = '4'")
    number(ledger, {new[0]: 5, new[1]: 4, new[2]: 5})
    expected = [*moved, new[1], new[0], new[2]]
    assert read(ledger) == expected
    for size in (1, 2, 3, 10, 11, 12, 13, 14):
        assert pages(ledger, size) == expected
    cursors = [row[0] for row in call(ledger, "read_feed")]
    for place, cursor in enumerate(cursors, 1):
        assert read(ledger, cursor) == expected[place:]


def test_a_restart_ends_the_previous_feed(ledger, entries):
    old = [row[0] for row in call(ledger, "read_feed")]
    assert restart(ledger) == 2
    middle = [row[0] for row in call(ledger, "read_feed")]
    assert restart(ledger) == 3
    for cursor in [*old, *middle]:
        refused(ledger, "LG009", "select * from ledger.read_feed(%s)", [cursor])
    assert read(ledger) == entries


def test_a_restart_of_an_empty_ledger_begins_at_its_first_entry(ledger):
    with behind(ledger), ledger.transaction(force_rollback=True):
        ledger.execute("set local session_replication_role = replica")
        ledger.execute("delete from ledger.entries")
        ledger.execute("select ledger.restart_feed()")
        assert one(ledger, "select last_restored from ledger.feeds where generation = 2") == (0,)


def test_nobody_but_the_owner_restarts_it(ledger):
    refused(ledger, "42501", "select ledger.restart_feed()")
