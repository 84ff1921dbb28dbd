"""A seal that was kept shows any entry before its checkpoint that was changed, removed or added."""

import json
from collections.abc import Callable
from hashlib import sha256

import psycopg
import pytest

from tests.exits.conftest import tamper
from tests.exits.vectors import octets
from tests.support import call, create, join, transfer

ENTRIES = """
select group_id, id, kind, from_id, to_id, amount, from_amount, to_amount,
  (extract(epoch from created_at) * 1000000)::bigint, reverses, metadata::text
from ledger.entries
where group_id = %s
order by xid, id
"""


@pytest.fixture
def entries(admin: psycopg.Connection, group: int) -> Callable[[], list[bytes]]:
    """The bytes of each entry of the group in the feed's order."""

    def read() -> list[bytes]:
        rows = admin.execute(ENTRIES, [group]).fetchall()
        return ["|".join("" if value is None else str(value) for value in row).encode() for row in rows]

    return read


def seals(admin: psycopg.Connection, group: int) -> list[bytes]:
    return [octets(seal) for (seal,) in admin.execute("select seal from ledger.list_checkpoints(%s)", [group])]


def sealed(seal: bytes, entries: list[bytes]) -> bytes:
    for entry in entries:
        seal = sha256(b"\x05" + seal + entry).digest()
    return seal


@pytest.fixture
def history(ledger, group, checkpoint, entries) -> list[list[bytes]]:
    """Four checkpoints, the third without an entry since the second; the entries since the one before each."""
    other = create(ledger, "Other")
    found: list[list[bytes]] = []

    def seal() -> None:
        checkpoint()
        found.append(entries()[sum(map(len, found)) :])

    alice, bob = join(ledger, group, "alice"), join(ledger, group, "bob")
    join(ledger, other, "alice")
    seal()
    entry = transfer(ledger, group, alice, bob, 5)
    call(ledger, "transfer", group, bob, alice, 1, None, json.dumps({"a|b": "é", "n": [1.50, None]}))
    call(ledger, "reverse_transfer", group, entry)
    call(ledger, "deposit", group, alice, 2**255)
    seal()
    seal()
    call(ledger, "exit_group", group, bob)
    seal()
    return found


def test_is_what_the_entries_make(admin, group, history):
    expected, seal = [], bytes(32)
    for entries in history:
        seal = sealed(seal, entries)
        expected.append(seal)
    assert [len(entries) for entries in history] == [2, 4, 0, 1]
    assert seals(admin, group) == expected


def test_an_entry_that_was_open_is_in_the_next_one(database, ledger, admin, group, checkpoint, entries):
    alice, bob = join(ledger, group, "alice"), join(ledger, group, "bob")
    before = entries()
    with database.connect(autocommit=False) as moving:
        transfer(moving, group, alice, bob, 5)
        call(ledger, "deposit", group, join(ledger, group, "carol"), 1)
        between = entries()[len(before) :]
        checkpoint()
        moving.commit()
    checkpoint()
    after = [entry for entry in entries() if entry not in before + between]
    assert len(after) == 1
    first = sealed(bytes(32), before + between)
    assert seals(admin, group) == [first, sealed(first, after)]


TAMPERINGS = {
    "an amount": "update ledger.entries set amount = amount + 1, to_amount = to_amount + 1 where id = 1",
    "metadata": "update ledger.entries set metadata = '{}' where id = 1",
    "a time": "update ledger.entries set created_at = created_at - interval '1 microsecond' where id = 1",
    "a removal": "delete from ledger.entries where id = 4",
    "an addition": """
        insert into ledger.entries (group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, xid)
        select group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, xid from ledger.entries
        where id = 4
    """,
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_verify_finds_a_record_that_was_changed(admin, group, history, discrepancies, name):
    assert discrepancies() == []
    tamper(admin, "create table kept as table ledger.entries")
    tamper(admin, TAMPERINGS[name])
    found = [each for each in discrepancies() if "another seal" in each]
    tamper(admin, "truncate ledger.entries cascade; insert into ledger.entries overriding system value table kept")
    assert found


def test_stays_after_a_restore(ledger, admin, group, history, checkpoint, entries, discrepancies):
    # What a backup had that no checkpoint included.
    join(ledger, group, "carol")
    admin.execute("select ledger.restart_feed()")
    join(ledger, group, "dave")
    checkpoint()
    join(ledger, group, "erin")
    checkpoint()
    assert discrepancies() == []
    everything = entries()
    known = sum(map(len, history))
    *_, fourth, fifth, sixth = seals(admin, group)
    assert fifth == sealed(fourth, everything[known : known + 2])
    assert sixth == sealed(fifth, everything[known + 2 :])


KEPT = "select detail from ledger_internal.verify_kept(%s, 2, %s, %s)"


def test_a_checkpoint_is_compared_with_what_was_kept_of_it(ledger, admin, group, history):
    header, seal = map(
        octets, ledger.execute("select header, seal from ledger.get_checkpoint(%s, 2)", [group]).fetchone()
    )
    assert admin.execute(KEPT, [group, header, seal]).fetchall() == []
    ((another_header,), (another_seal,)) = admin.execute(KEPT, [group, seal, header]).fetchall()
    assert "another header than was kept" in another_header
    assert "another seal than was kept" in another_seal
    ((missing,),) = admin.execute(KEPT, [group + 1, header, seal]).fetchall()
    assert missing == "checkpoint 2 is not there"
