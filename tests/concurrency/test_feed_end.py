"""feed_end beside writers: each entry that was not in a list read after it comes, and each once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support import call, join, one, transfer

WRITERS = 4
ROUNDS = 12


def end(ledger: psycopg.Connection) -> str | None:
    return one(ledger, "select ledger.feed_end()")[0]


def read(ledger: psycopg.Connection, after: str | None) -> list[int]:
    return [row[2] for row in call(ledger, "read_feed", after)]


@pytest.fixture
def carol(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "carol")


@pytest.fixture
def dora(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "dora")


def test_is_behind_what_can_be_read_and_before_what_is_open(ledger, session, group, alice, bob, carol, dora):
    done = transfer(ledger, group, alice, bob, 1)
    older = session()
    early = transfer(older, group, alice, bob, 1)
    # It commits before the end is taken, and cannot be read while the older one is open.
    held = transfer(ledger, group, carol, dora, 1)
    cursor = end(ledger)
    younger = session()
    late = transfer(younger, group, dora, carol, 1)
    assert read(ledger, None)[-1] == done
    assert read(ledger, cursor) == []
    younger.commit()
    older.commit()
    assert read(ledger, cursor) == [early, held, late]


def test_a_transaction_that_has_taken_no_number_yet_comes_after_it(ledger, session, group, alice, bob):
    writer = session()
    one(writer, "select 1")
    cursor = end(ledger)
    made = transfer(writer, group, alice, bob, 1)
    writer.commit()
    assert read(ledger, cursor) == [made]
    assert read(ledger, end(ledger)) == []


def test_of_an_old_snapshot_is_before_what_it_does_not_show(ledger, session, group, alice, bob):
    reader = session(psycopg.IsolationLevel.REPEATABLE_READ)
    one(reader, "select 1")
    made = transfer(ledger, group, alice, bob, 1)
    assert read(ledger, end(reader)) == [made]


def test_an_entry_of_a_transaction_as_old_as_the_restart_comes_after_it(ledger, session, admin, group, alice, bob):
    early = session()
    one(early, "select pg_current_xact_id()::text")
    (generation,) = one(admin, "select ledger.restart_feed()")
    # The feed begins with the number of the open transaction.
    cursor = end(ledger)
    assert read(ledger, cursor) == []
    written = transfer(early, group, alice, bob, 1)
    early.commit()
    assert read(ledger, cursor) == [written]
    assert int(end(ledger).partition("-")[0]) == generation


def test_no_entry_is_missed_between_a_list_and_the_feed_from_its_end(database, ledger, group, alice, bob, carol, dora):
    pairs = [(alice, bob), (carol, dora), (bob, alice), (dora, carol)]
    begin = threading.Barrier(WRITERS + 1)

    def write(number: int) -> list[int]:
        kept = []
        with database.connect(autocommit=False) as writer:
            begin.wait()
            for turn in range(ROUNDS):
                one(writer, "select pg_current_xact_id()::text")
                made = transfer(writer, group, *pairs[number], 1)
                if turn % 4 == 3:
                    writer.rollback()
                else:
                    writer.commit()
                    kept.append(made)
        return kept

    seen = []
    with ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(write, number) for number in range(WRITERS)]
        begin.wait()
        while not all(writer.done() for writer in writers):
            # In one snapshot: the end, and what can be read.
            cursor, readable = one(ledger, "select ledger.feed_end(), array(select id from ledger.read_feed())")
            listed = {row[1] for row in call(ledger, "list_entries", group)}
            seen.append((cursor, readable, listed))
        written = {entry for writer in writers for entry in writer.result()}
    assert len(seen) > 1
    whole = read(ledger, None)
    assert written <= set(whole)
    for cursor, readable, listed in seen:
        after = read(ledger, cursor)
        assert [*readable, *after] == whole
        assert written <= listed | set(after)
