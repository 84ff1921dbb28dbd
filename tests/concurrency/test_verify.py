"""verify beside writers: no session waits, and open transactions are no discrepancy."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from api.admin import verify as command
from tests.support import call, create, join, one, transfer

ROUNDS = 30


@pytest.fixture
def hasty(ledger: psycopg.Connection) -> psycopg.Connection:
    """The serving role, which does not wait."""
    ledger.execute("set lock_timeout = '1ms'")
    return ledger


def test_blocks_no_writer(session, database, hasty, group, alice, bob):
    empty = create(hasty, "empty")
    auditor = session(role=database.admin)
    assert auditor.execute("select * from ledger.verify()").fetchall() == []
    transfer(hasty, group, alice, bob, 1)
    carol = join(hasty, group, "carol")
    call(hasty, "rename_participant", group, carol, "caroline")
    call(hasty, "transfer_all", group, f'[{{"from": {alice}, "to": {bob}, "amount": 1}}]', "key")
    call(hasty, "exit_group", group, carol)
    call(hasty, "remove_group", empty)
    # It holds only a reader's locks.
    held = auditor.execute("select distinct mode from pg_locks where pid = pg_backend_pid() and relation is not null")
    assert held.fetchall() == [("AccessShareLock",)]


def test_waits_for_nobody(session, admin, database, group, alice, bob):
    writer = session()
    transfer(writer, group, alice, bob, 1)
    call(writer, "exit_group", group, alice)
    admin.execute("set lock_timeout = '1ms'")
    assert admin.execute("select * from ledger.verify()").fetchall() == []


def test_finds_nothing_wrong_while_others_write(database, admin, group, alice, bob, monkeypatch):
    monkeypatch.setattr(command, "LARGEST_SIZE", 20)

    def write(number: int) -> None:
        sender, recipient = ((alice, bob), (bob, alice))[number % 2]
        with database.connect() as writer:
            for turn in range(ROUNDS):
                joined = join(writer, group, f"{number}-{turn}", 7)
                transfer(writer, group, sender, recipient, 1)
                transfer(writer, group, joined, recipient, 2)
                call(writer, "exit_group", group, joined)

    looked = 0
    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write, number) for number in range(4)]
        while not all(writer.done() for writer in writers):
            assert admin.execute("select * from ledger.verify()").fetchall() == []
            assert [
                step.discrepancies for step in command.verify(database.url(database.admin)) if step.discrepancies
            ] == []
            looked += 1
        for writer in writers:
            writer.result()
    assert looked > 0
    assert one(admin, "select count(*) from ledger.entries where group_id = %s", [group]) == (2 + 4 * 4 * ROUNDS,)
