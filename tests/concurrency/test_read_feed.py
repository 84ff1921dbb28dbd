"""read_feed beside writers: in any order of their commits, no entry is skipped and none is returned twice."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support import call, create, in_background, join, one, refused, transfer, wait_until_blocked

WRITERS = 6
ROUNDS = 25


def read(ledger: psycopg.Connection, after: str | None = None) -> list[int]:
    return [row[2] for row in call(ledger, "read_feed", after)]


def end(ledger: psycopg.Connection) -> str:
    return call(ledger, "read_feed")[-1][0]


@pytest.fixture
def carol(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "carol")


@pytest.fixture
def dora(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "dora")


def test_an_open_transaction_holds_back_later_entries(ledger, session, group, alice, bob, carol, dora):
    start = end(ledger)
    first, second = session(), session()
    early = transfer(first, group, alice, bob, 1)
    late = transfer(second, group, carol, dora, 1)
    second.commit()
    # The late one has committed, with the higher number.
    assert read(ledger, start) == []
    first.commit()
    assert read(ledger, start) == [early, late]
    assert read(ledger, end(ledger)) == []


def test_entries_that_were_rolled_back_are_never_shown(ledger, session, group, alice, bob, carol, dora):
    start = end(ledger)
    first, second = session(), session()
    transfer(first, group, alice, bob, 1)
    late = transfer(second, group, carol, dora, 1)
    second.commit()
    assert read(ledger, start) == []
    first.rollback()
    assert read(ledger, start) == [late]


def test_entries_committed_before_an_open_transaction_are_shown(ledger, session, group, alice, bob, carol, dora):
    start = end(ledger)
    done = transfer(ledger, group, carol, dora, 1)
    transfer(session(), group, alice, bob, 1)
    assert read(ledger, start) == [done]


def test_an_open_transaction_of_another_group_holds_back_too(ledger, session, group, alice, bob):
    start = end(ledger)
    other = create(ledger, "other")
    first = session()
    early = call(first, "join_group", other, "erin", 5)[0][4]
    late = transfer(ledger, group, alice, bob, 1)
    assert read(ledger, start) == []
    first.commit()
    assert read(ledger, start) == [early, late]


def test_an_entry_of_a_savepoint_counts_as_its_transactions(ledger, session, group, alice, bob, carol, dora):
    start = end(ledger)
    first, second = session(), session()
    early = transfer(first, group, alice, bob, 1)
    with second.transaction():
        late = transfer(second, group, carol, dora, 1)
    first.execute("savepoint here")
    last = transfer(first, group, bob, alice, 1)
    first.execute("release here")
    assert read(ledger, start) == []
    first.commit()
    # By the transaction, not by the id: the last one belongs to the first.
    assert read(ledger, start) == [early, last, late]


def test_a_transaction_that_only_reads_holds_nothing_back(ledger, session, group, alice, bob):
    start = end(ledger)
    reader = session(psycopg.IsolationLevel.REPEATABLE_READ)
    call(reader, "read_feed")
    done = transfer(ledger, group, alice, bob, 1)
    assert read(ledger, start) == [done]
    # A session with an old snapshot resumes where the snapshot ends.
    assert read(reader, start) == []


def test_a_reader_beside_many_writers_sees_every_entry_once(database, ledger, group, alice, bob, carol, dora):
    pairs = [(alice, bob), (bob, alice), (carol, dora), (dora, carol), (alice, dora), (carol, bob)]
    start = end(ledger)
    begin = threading.Barrier(WRITERS + 1)

    def write(number: int) -> list[int]:
        sender, recipient = pairs[number % len(pairs)]
        kept = []
        with database.connect(autocommit=False) as writer:
            begin.wait()
            for turn in range(ROUNDS):
                # The number is taken now; the entries come later, and commit in any order.
                one(writer, "select pg_current_xact_id()::text")
                made = [call(writer, "join_group", group, f"{number}-{turn}", 0)[0][4]] if turn % 3 == 0 else []
                made.append(transfer(writer, group, sender, recipient, 1))
                if turn % 4 == 3:
                    writer.rollback()
                else:
                    writer.commit()
                    kept += made
        return kept

    def follow(writers: list) -> list[int]:
        found, after = [], start
        while True:
            ended = all(writer.done() for writer in writers)
            page = call(ledger, "read_feed", after, 7)
            found += [row[2] for row in page]
            if page:
                after = page[-1][0]
            elif ended:
                return found

    with ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(write, number) for number in range(WRITERS)]
        begin.wait()
        found = follow(writers)
        written = [entry for writer in writers for entry in writer.result()]
    assert len(written) > WRITERS * ROUNDS / 2
    assert len(found) == len(set(found))
    assert sorted(found) == sorted(written)
    assert read(ledger, start) == found


def test_a_restart_waits_for_transactions_that_write(ledger, session, admin, database, group, alice, bob):
    old = end(ledger)
    feed = int(old.partition("-")[0])
    first = session()
    early = transfer(first, group, alice, bob, 1)
    with database.connect(database.admin) as owner:
        with in_background(lambda: one(owner, "select ledger.restart_feed()")) as outcome:
            wait_until_blocked(admin, owner)
            first.commit()
        assert outcome == [(feed + 1,)]
    assert one(admin, "select last_restored from ledger.feeds where generation = %s", [feed + 1]) == (early,)
    refused(ledger, "LG009", "select * from ledger.read_feed(%s)", [old])
    late = transfer(ledger, group, bob, alice, 1)
    entries = [entry for (entry,) in admin.execute("select id from ledger.entries order by id").fetchall()]
    assert entries[-2:] == [early, late]
    assert read(ledger) == entries


def test_a_restart_does_not_deadlock_with_a_transaction_that_goes_on_to_write(
    ledger, session, admin, database, group, alice, bob
):
    call(ledger, "bind_address", group, alice, f"0x{7:040x}")
    first = session()
    # Holds the row of alice, and has written no entry yet.
    call(first, "rename_participant", group, alice, "alicia")
    with database.connect(database.admin) as owner:
        with in_background(lambda: one(owner, "select ledger.restart_feed()")) as outcome:
            wait_until_blocked(admin, owner)
            transfer(first, group, alice, bob, 1)
            first.commit()
        assert len(outcome) == 1
        assert isinstance(outcome[0], tuple), outcome
    assert admin.execute("select detail from ledger.verify()").fetchall() == []


def test_an_entry_of_a_transaction_older_than_the_restart_is_shown(ledger, session, admin, group, alice, bob):
    early = session()
    one(early, "select pg_current_xact_id()::text")
    with admin.transaction():
        # Transactions have begun since `early`.
        admin.execute("select pg_current_xact_id()")
        admin.execute("select ledger.restart_feed()")
    begun = end(ledger)
    late = transfer(ledger, group, alice, bob, 1)
    assert read(ledger, begun) == []
    written = transfer(early, group, bob, alice, 1)
    early.commit()
    assert read(ledger, begun) == [written, late]
