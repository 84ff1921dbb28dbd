"""verify: sound books give no row, and each way in which a row can be wrong gives one that says where."""

import re
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from tests.functions.conftest import behind
from tests.support import call, join, one, refused, statement, transfer

FAULTS = {"running balance", "entry id", "participant id", "presence time", "idempotency key"}
FUNCTIONS = Path(__file__).resolve().parents[2] / "db" / "functions"

# What keeps such faults out, and what a careless superuser or a broken disk gets round.
WITHOUT_RULES = """
do $$
declare
  rule record;
begin
  -- No trigger fires: nothing is permanent, and no foreign key is checked.
  set local session_replication_role = replica;
  for rule in
    select c.conrelid::regclass as guarded, c.conname
    from pg_constraint as c
    where c.connamespace = 'ledger'::regnamespace
      and c.contype = 'c'
  loop
    execute format('alter table %s drop constraint %I', rule.guarded, rule.conname);
  end loop;
  drop index ledger.entries_reversed_once;
end
$$
"""

COMMENTS = re.compile(r"^\s*--.*|^comment[^;]*;", re.MULTILINE)
# What each function can say of a fault.
DETAILS = {
    name: [
        text
        for text in re.findall(r"'([^']*)'", COMMENTS.sub("", (FUNCTIONS / f"{name}.sql").read_text()))
        if " " in text and text not in FAULTS
    ]
    for name in ("verify_entries", "verify_participants", "verify_keys", "verify_total")
}

ENTRY = """
insert into ledger.entries (group_id, id, kind, from_id, to_id, amount, from_amount, to_amount, reverses)
overriding system value
"""
TWICE = "alter table ledger.entries drop constraint entries_pkey cascade;"
FRACTIONS = """
drop view ledger.record cascade;
alter table ledger.entries
  alter column amount type numeric,
  alter column from_amount type numeric,
  alter column to_amount type numeric;
"""

# For each corruption: SQL, and every fault that it must give, as (entry, participant, fault).
Expected = list[tuple[str | None, str | None, str]]
CASES: dict[str, tuple[str, Expected]] = {
    # an entry by itself
    "unknown-kind": (
        "update ledger.entries set kind = 'gift' where id = {sent}",
        [("sent", "alice", "kind"), ("sent", None, "total"), ("undone", None, "reversal")],
    ),
    "join-from-somebody": (
        "update ledger.entries set from_id = {alice}, from_amount = 0 where id = {bob_joined}",
        [("bob_joined", "alice", "kind"), ("sent", "alice", "running balance")],
    ),
    "join-to-nobody": (
        "update ledger.entries set to_id = null, to_amount = null where id = {eve_joined}",
        [("eve_joined", None, "kind"), ("eve_joined", None, "running balance"), (None, "eve", "presence")],
    ),
    "transfer-from-nobody": (
        "update ledger.entries set from_id = null, from_amount = null where id = {back}",
        [("back", None, "kind"), ("second_line", "bob", "running balance")],
    ),
    "transfer-to-nobody": (
        "update ledger.entries set to_id = null, to_amount = null where id = {back}",
        [("back", "bob", "kind"), ("first_line", "alice", "running balance")],
    ),
    "transfer-to-oneself": (
        "update ledger.entries set to_id = from_id where id = {back}",
        [("back", "bob", "kind"), ("back", "bob", "running balance"), ("first_line", "alice", "running balance")],
    ),
    "exit-to-somebody": (
        "update ledger.entries set to_id = {eve}, to_amount = 7 where id = {dora_left}",
        [("dora_left", "dora", "kind"), (None, "eve", "presence"), (None, "eve", "presence time")],
    ),
    "exit-from-nobody": (
        "update ledger.entries set from_id = null, from_amount = null where id = {dora_left}",
        [("dora_left", None, "kind"), (None, "dora", "balance"), (None, "dora", "presence")],
    ),
    "no-balance-of-the-sender": (
        "update ledger.entries set from_amount = null where id = {back}",
        [("back", "bob", "kind"), ("back", "bob", "running balance"), ("second_line", "bob", "running balance")],
    ),
    "no-balance-of-the-recipient": (
        "update ledger.entries set to_amount = null where id = {back}",
        [("back", "bob", "kind"), ("back", "alice", "running balance"), ("first_line", "alice", "running balance")],
    ),
    "transfer-of-nothing": (
        "update ledger.entries set amount = 0 where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("back", "alice", "running balance")],
    ),
    "negative-amount": (
        "update ledger.entries set amount = -3 where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("back", "alice", "running balance")],
    ),
    "no-number": (
        "update ledger.entries set amount = 'NaN' where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("back", "alice", "running balance")],
    ),
    "infinite": (
        FRACTIONS + "update ledger.entries set amount = 'Infinity' where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("back", "alice", "running balance")],
    ),
    "2^256": (
        "update ledger.entries set amount = 2::numeric ^ 256 where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("back", "alice", "running balance")],
    ),
    "fraction": (
        FRACTIONS + "update ledger.entries set amount = 3.5 where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("back", "alice", "running balance")],
    ),
    "negative-balance-of-sender": (
        "update ledger.entries set from_amount = -1 where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("second_line", "bob", "running balance")],
    ),
    "2^256-balance-of-sender": (
        "update ledger.entries set from_amount = 2::numeric ^ 256 where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("second_line", "bob", "running balance")],
    ),
    "fraction-balance-of-sender": (
        FRACTIONS + "update ledger.entries set from_amount = 107.5 where id = {back}",
        [("back", None, "amount"), ("back", "bob", "running balance"), ("second_line", "bob", "running balance")],
    ),
    "negative-balance-of-recipient": (
        "update ledger.entries set to_amount = -1 where id = {back}",
        [("back", None, "amount"), ("back", "alice", "running balance"), ("first_line", "alice", "running balance")],
    ),
    "2^256-balance-of-recipient": (
        "update ledger.entries set to_amount = 2::numeric ^ 256 where id = {back}",
        [("back", None, "amount"), ("back", "alice", "running balance"), ("first_line", "alice", "running balance")],
    ),
    "fraction-balance-of-recipient": (
        FRACTIONS + "update ledger.entries set to_amount = 107.5 where id = {back}",
        [("back", None, "amount"), ("back", "alice", "running balance"), ("first_line", "alice", "running balance")],
    ),
    # an entry beside those before it
    "other-amount": (
        "update ledger.entries set amount = 4 where id = {back}",
        [("back", "bob", "running balance"), ("back", "alice", "running balance")],
    ),
    "other-balance-of-the-sender": (
        "update ledger.entries set from_amount = from_amount + 1 where id = {back}",
        [("back", "bob", "running balance"), ("second_line", "bob", "running balance")],
    ),
    "other-balance-of-the-recipient": (
        "update ledger.entries set to_amount = to_amount + 1 where id = {back}",
        [("back", "alice", "running balance"), ("first_line", "alice", "running balance")],
    ),
    "other-balance-after-a-join": (
        "update ledger.entries set to_amount = 1 where id = {eve_joined}",
        [("eve_joined", "eve", "running balance"), (None, "eve", "balance")],
    ),
    "other-balance-after-a-last-entry": (
        "update ledger.entries set to_amount = to_amount + 1 where id = {undone}",
        [("undone", "alice", "running balance"), (None, "alice", "balance")],
    ),
    "other-sender": (
        "update ledger.entries set from_id = {eve} where id = {back}",
        [
            ("back", "eve", "running balance"),
            ("second_line", "bob", "running balance"),
            (None, "eve", "balance"),
            (None, "eve", "presence time"),
        ],
    ),
    "exit-that-keeps-something": (
        "update ledger.entries set amount = 5, from_amount = 2 where id = {dora_left}",
        [("dora_left", "dora", "running balance"), ("dora_left", None, "total")],
    ),
    "vanished-transfer": (
        "delete from ledger.entries where id = {back}",
        [
            ("first_line", "alice", "running balance"),
            ("second_line", "bob", "running balance"),
            ("back", None, "idempotency key"),
        ],
    ),
    "vanished-join": (
        "delete from ledger.entries where id = {dora_joined}",
        [("dora_left", "dora", "presence"), ("dora_joined", None, "total")],
    ),
    "vanished-exit": (
        "delete from ledger.entries where id = {dora_left}",
        [
            (None, "dora", "balance"),
            (None, "dora", "presence"),
            ("dora_left", None, "idempotency key"),
            ("dora_left", None, "total"),
            ("dora_left", None, "settlement"),
        ],
    ),
    "invented-transfer": (
        ENTRY + "values ({group}, {new}, 'transfer', {bob}, {alice}, 1, 0, 0, null)",
        [
            ("new", "bob", "running balance"),
            ("new", "alice", "running balance"),
            (None, "alice", "balance"),
            (None, "alice", "presence time"),
            (None, "bob", "balance"),
            (None, "bob", "presence time"),
        ],
    ),
    "second-join": (
        ENTRY + "values ({group}, {new}, 'join', null, {eve}, 0, null, 0, null)",
        [("new", "eve", "presence"), ("new", None, "total"), (None, "eve", "presence time")],
    ),
    "moved-after-exit": (
        ENTRY + "values ({group}, {new}, 'transfer', {bob}, {dora}, 1, 0, 1, null)",
        [
            ("new", "bob", "running balance"),
            ("new", "dora", "presence"),
            (None, "bob", "balance"),
            (None, "bob", "presence time"),
            (None, "dora", "balance"),
            (None, "dora", "presence"),
            (None, "dora", "presence time"),
        ],
    ),
    "twice": (
        TWICE + ENTRY + "select group_id, id, kind, from_id, to_id, amount, from_amount, to_amount, reverses from "
        "ledger.entries where id = {back}",
        [
            ("back", "bob", "running balance"),
            ("back", "alice", "running balance"),
            ("back", "bob", "time"),
            ("back", "alice", "time"),
            ("back", None, "entry id"),
            ("back", None, "entry id"),
            (None, "alice", "balance"),
            (None, "alice", "presence time"),
            (None, "bob", "balance"),
            (None, "bob", "presence time"),
        ],
    ),
    "times-exchanged": (
        "update ledger.entries set created_at = (select e.created_at from ledger.entries as e where "
        "e.id = case entries.id when {sent} then {back} else {sent} end) where id in ({sent}, {back})",
        [
            ("sent", "alice", "running balance"),
            ("sent", "bob", "running balance"),
            ("sent", "alice", "time"),
            ("sent", "bob", "time"),
            ("back", "bob", "running balance"),
            ("back", "alice", "running balance"),
            ("first_line", "alice", "running balance"),
            ("second_line", "bob", "running balance"),
        ],
    ),
    "unknown-participant": (
        "delete from ledger.participants where id = {eve}",
        [("eve_joined", "eve", "participant")],
    ),
    # reversals
    "reversal-of-the-same-way": (
        "update ledger.entries set reverses = {sent} where id = {first_line}",
        [("first_line", None, "reversal"), ("first_line", None, "reversal"), ("undone", None, "reversal")],
    ),
    "reversal-of-nothing": (
        "update ledger.entries set reverses = 1 where id = {undone}",
        [("undone", None, "reversal")],
    ),
    "reversal-of-another-amount": (
        "update ledger.entries set reverses = {sent} where id = {back}",
        [("back", None, "reversal"), ("back", None, "reversal"), ("undone", None, "reversal")],
    ),
    "reversal-of-a-later-one": (
        "update ledger.entries set reverses = {undone} where id = {sent}",
        [("sent", None, "reversal")],
    ),
    "reversal-of-a-join": (
        "update ledger.entries set reverses = {alice_joined} where id = {undone}",
        [("undone", None, "reversal")],
    ),
    "second-reversal": (
        "update ledger.entries set amount = 10, from_amount = 100, to_amount = 100, reverses = "
        "{sent} where id = {back}",
        [
            ("back", None, "reversal"),
            ("first_line", "alice", "running balance"),
            ("second_line", "bob", "running balance"),
            ("undone", None, "reversal"),
        ],
    ),
    # settlements
    "vanished-settlement": (
        "delete from ledger.settlements where entry_id = {carol_left}",
        [("carol_left", "carol", "settlement")],
    ),
    "settlement-of-other-time": (
        "update ledger.settlements set exited_at = exited_at - interval '1 s' where entry_id = {carol_left}",
        [("carol_left", "carol", "settlement")],
    ),
    "reference-without-time": (
        "update ledger.settlements set reference = 'x' where entry_id = {carol_left}",
        [("carol_left", "carol", "settlement")],
    ),
    "time-without-reference": (
        "update ledger.settlements set settled_at = exited_at where entry_id = {carol_left}",
        [("carol_left", "carol", "settlement")],
    ),
    "settled-before": (
        "update ledger.settlements set settled_at = exited_at - interval '1 s' where entry_id = {dora_left}",
        [("dora_left", "dora", "settlement")],
    ),
    "settlement-of-transfer": (
        "update ledger.settlements set entry_id = {back} where entry_id = {carol_left}",
        [("carol_left", "carol", "settlement"), ("back", None, "settlement")],
    ),
    "settlement-of-nothing": (
        "insert into ledger.settlements (group_id, entry_id, exited_at) values ({group}, {new}, clock_timestamp())",
        [("new", None, "settlement")],
    ),
    # totals
    "vanished-note": (
        "delete from ledger.group_totals where entry_id = {eve_joined}",
        [("eve_joined", None, "total")],
    ),
    "vanished-last-note": (
        "delete from ledger.group_totals where entry_id = {dora_left}",
        [("dora_left", None, "total"), (None, None, "total")],
    ),
    "note-twice": (
        "insert into ledger.group_totals select group_id, {free_slot}, created_at, entry_id, 0 from "
        "ledger.group_totals where entry_id = {eve_joined}",
        [("eve_joined", None, "total")],
    ),
    "note-at-other-time": (
        "update ledger.group_totals set created_at = created_at + interval '1 us' where entry_id = {eve_joined}",
        [("eve_joined", None, "total"), ("eve_joined", None, "total")],
    ),
    "note-of-a-transfer": (
        "insert into ledger.group_totals select group_id, 9, created_at, id, 0 from ledger.entries where id = {back}",
        [("back", None, "total")],
    ),
    "note-for-ninth": (
        "insert into ledger.group_totals select group_id, 8, created_at, id, 0 from ledger.entries "
        "where id = {eve_joined}",
        [("eve_joined", None, "total")],
    ),
    "note-of-nothing": (
        "insert into ledger.group_totals select group_id, slot, created_at - interval '1 day', "
        "{new}, 0 from ledger.group_totals where entry_id = {alice_joined}",
        [("new", None, "total")],
    ),
    "other-note": (
        "update ledger.group_totals set total = total + 1 where entry_id = {eve_joined}",
        [("eve_joined", None, "total"), ("carol_left", None, "total")],
    ),
    "other-last-note": (
        "update ledger.group_totals set total = total + 1 where entry_id = {dora_left}",
        [("dora_left", None, "total"), (None, None, "total")],
    ),
    "other-counter": (
        "update ledger.group_counters set total = total + 1 where group_id = {group} and slot = {slot}",
        [(None, None, "total"), (None, None, "total")],
    ),
    "vanished-counter": (
        "delete from ledger.group_counters where group_id = {group} and slot = {free_slot}",
        [(None, None, "total")],
    ),
    "other-slot": (
        "update ledger.group_counters set slot = 8 where group_id = {group} and slot = {free_slot}",
        [(None, None, "total")],
    ),
    "other-slot-below": (
        "update ledger.group_counters set slot = -1 where group_id = {group} and slot = {free_slot}",
        [(None, None, "total")],
    ),
    "ninth-counter": (
        "insert into ledger.group_counters (group_id, slot) values ({group}, 8)",
        [(None, None, "total")],
    ),
    # participants
    "other-balance": (
        "update ledger.participants set amount = amount + 1 where id = {alice}",
        [(None, "alice", "balance"), (None, None, "total")],
    ),
    "holds-after-exit": (
        "update ledger.participants set amount = 1 where id = {dora}",
        [(None, "dora", "balance"), (None, None, "total")],
    ),
    "unrecorded-participant": (
        "insert into ledger.participants (group_id, id, username, amount) overriding system value "
        "values ({group}, {new}, 'ghost', 0)",
        [(None, "new", "presence")],
    ),
    "present-after-exit": (
        "update ledger.participants set exited_at = null where id = {dora}",
        [(None, "dora", "presence")],
    ),
    "left-without-exit": (
        "update ledger.participants set exited_at = now() where id = {eve}",
        [(None, "eve", "presence")],
    ),
    "removed-with-participants": (
        "update ledger.groups set closed_at = now() where id = {group}",
        [(None, "alice", "presence"), (None, "bob", "presence"), (None, "eve", "presence")],
    ),
    "other-join-time": (
        "update ledger.participants set joined_at = joined_at - interval '1 us' where id = {alice}",
        [(None, "alice", "presence time")],
    ),
    "other-exit-time": (
        "update ledger.participants set exited_at = exited_at + interval '1 us' where id = {dora}",
        [(None, "dora", "presence time")],
    ),
    "other-move-time": (
        "update ledger.participants set moved_at = joined_at where id = {alice}",
        [(None, "alice", "presence time")],
    ),
    "participant-twice": (
        "alter table ledger.participants drop constraint participants_pkey cascade; insert into "
        "ledger.participants overriding system value select group_id, id, 'other', amount, "
        "joined_at, exited_at, moved_at from ledger.participants where id = {eve}",
        [(None, "eve", "participant id"), (None, "eve", "participant id")],
    ),
    # idempotency keys
    "key-twice": (
        "alter table ledger.idempotency_keys drop constraint idempotency_keys_pkey cascade; insert "
        "into ledger.idempotency_keys select * from ledger.idempotency_keys where group_id = {group} "
        "and key = 'back'",
        [(None, None, "idempotency key"), (None, None, "idempotency key")],
    ),
    "key-of-nothing": (
        "update ledger.idempotency_keys set answer = '{{\"entry_id\": {new}}}' where group_id = "
        "{group} and key = 'back'",
        [("new", None, "idempotency key")],
    ),
    "key-of-no-reversal": (
        "update ledger.idempotency_keys set answer = '{{\"id\": {new}}}' where group_id = {group} and key = 'undo'",
        [("new", None, "idempotency key")],
    ),
    "key-of-no-settlement": (
        "update ledger.idempotency_keys set answer = '{{\"id\": {new}}}' where group_id = {group} and key = 'settle'",
        [("new", None, "idempotency key")],
    ),
    "key-of-no-line": (
        'update ledger.idempotency_keys set answer = \'{{"entries": [{{"id": {back}}}, {{"id": '
        "{new}}}]}}' where group_id = {group} and key = 'lines'",
        [("new", None, "idempotency key")],
    ),
    "no-fingerprint": (
        "update ledger.idempotency_keys set fingerprint = '' where group_id = {group} and key = 'back'",
        [(None, None, "idempotency key")],
    ),
    "no-fingerprint-of-a-new-group": (
        "update ledger.idempotency_keys set fingerprint = '' where group_id = 0 and key = 'create'",
        [(None, None, "idempotency key")],
    ),
}


@pytest.fixture
def books(ledger: psycopg.Connection, group: int, alice: int, bob: int) -> dict[str, int]:
    """Ids, by name, of a group in which everything has happened."""
    carol, dora, eve = (join(ledger, group, name, amount) for name, amount in (("carol", 50), ("dora", 7), ("eve", 0)))
    with behind(ledger):
        joined = dict(ledger.execute("select to_id, id from ledger.entries where group_id = %s", [group]).fetchall())
    sent = transfer(ledger, group, alice, bob, 10)
    back = one(ledger, "select entry_id from ledger.transfer(%s, %s, %s, 3, 'back')", [group, bob, alice])[0]
    lines = f'[{{"from": {alice}, "to": {carol}, "amount": 5}}, {{"from": {carol}, "to": {bob}, "amount": 55}}]'
    ((entries,),) = ledger.execute(
        "select array(select e.id from unnest((ledger.transfer_all(%s, %s, 'lines')).entries) as e)", [group, lines]
    ).fetchall()
    ((undone,),) = ledger.execute("select id from ledger.reverse_transfer(%s, %s, 'undo')", [group, sent]).fetchall()
    carol_left = one(ledger, "select entry_id from ledger.exit_group(%s, %s, 'leave')", [group, carol])[0]
    dora_left = one(ledger, "select entry_id from ledger.exit_group(%s, %s)", [group, dora])[0]
    call(ledger, "settle_exit", group, dora_left, "0xabc", "settle")
    removed = one(ledger, "select id from ledger.create_group('removed', 'create')")[0]
    frank = join(ledger, removed, "frank", 9)
    ledger.execute("select ledger.exit_group(%s, %s)", [removed, frank])
    ledger.execute("select ledger.remove_group(%s, 'remove')", [removed])
    slot = ledger.info.backend_pid % 8
    return {
        "group": group, "alice": alice, "bob": bob, "carol": carol, "dora": dora, "eve": eve,
        "alice_joined": joined[alice], "bob_joined": joined[bob], "dora_joined": joined[dora],
        "eve_joined": joined[eve], "sent": sent, "back": back, "first_line": entries[0],
        "second_line": entries[1], "undone": undone,
        "removed": removed, "carol_left": carol_left, "dora_left": dora_left, "new": 2**40,
        "slot": slot, "free_slot": (slot + 1) % 8,
    }  # fmt: skip


# Its faults are the keys of requests that created a group, and belong to none.
NO_GROUP = {"no-fingerprint-of-a-new-group"}


def verify(owner: psycopg.Connection, *arguments: object) -> list[tuple]:
    return owner.execute(statement("verify", arguments), arguments).fetchall()


@pytest.fixture
def superuser(owner: psycopg.Connection, ledger: psycopg.Connection, books: dict[str, int]) -> psycopg.Connection:
    owner.execute("reset session authorization")
    return owner


def named(books: dict[str, int], expected: Expected) -> list[tuple]:
    """The faults with ids for names, in the order of sorted()."""
    return sorted(((books.get(entry), books.get(side), fault) for entry, side, fault in expected), key=str)


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_found_where_it_is(superuser, books, neighbour, case):
    sql, expected = CASES[case]
    with superuser.transaction(force_rollback=True):
        superuser.execute(WITHOUT_RULES)
        superuser.execute(sql.format(**books))
        found = verify(superuser)
        assert sorted((fault[1:4] for fault in found), key=str) == named(books, expected)
        assert {fault[0] for fault in found} == {0 if case in NO_GROUP else books["group"]}
        assert all(fault[4] for fault in found)
        assert verify(superuser, books["group"]) == [fault for fault in found if case not in NO_GROUP]
        assert verify(superuser, neighbour) == []


def test_every_fault_that_the_functions_name_is_seen(superuser, books):
    told = set()
    with superuser.transaction(force_rollback=True):
        superuser.execute(WITHOUT_RULES)
        for sql, _ in CASES.values():
            with superuser.transaction(force_rollback=True):
                superuser.execute(sql.format(**books))
                told |= {fault[4] for fault in verify(superuser)}
    for details in DETAILS.values():
        assert details
        for detail in details:
            assert any(re.search(re.escape(detail).replace("%s", ".*"), line) for line in told), detail


def test_sound_books_have_no_fault(superuser, books, neighbour):
    # The rich ones, those that never had an entry, and those of a removed group.
    assert verify(superuser) == []
    for group in (books["group"], books["removed"], neighbour):
        assert verify(superuser, group) == []


def test_sound_books_without_an_entry_have_no_fault(superuser, empty_group):
    assert verify(superuser) == []
    assert verify(superuser, empty_group) == []


def test_largest_balances_are_sound(ledger, owner, group):
    rich, poor = join(ledger, group, "rich", 2**256 - 1), join(ledger, group, "poor", 0)
    transfer(ledger, group, rich, poor, 2**256 - 1)
    ledger.execute("select ledger.exit_group(%s, %s)", [group, rich])
    owner.execute("reset session authorization")
    assert verify(owner) == []


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("case", ["other-balance-of-the-sender", "other-balance", "key-of-nothing", "twice"])
def test_ranges_find_together_what_one_finds(superuser, books, case, size):
    group = books["group"]
    with superuser.transaction(force_rollback=True):
        superuser.execute(WITHOUT_RULES)
        superuser.execute(CASES[case][0].format(**books))
        for table, key, function, before in (
            ("entries", "id", "verify_entries", 0),
            ("participants", "id", "verify_participants", 0),
            ("idempotency_keys", "key", "verify_keys", ""),
        ):
            keys = superuser.execute(
                f"select distinct {key} from ledger.{table} where group_id = %s order by {key}", [group]
            ).fetchall()
            bounds = [before, *(key for (key,) in keys[size - 1 :: size]), None]
            found = [fault for pair in pairwise(bounds) for fault in call(superuser, function, group, *pair)]
            assert sorted(found, key=str) == sorted(call(superuser, function, group, before, None), key=str)


def test_a_stranger_is_refused(superuser, stranger):
    refused(superuser, "LG002", "select ledger.verify(%s)", [stranger])


def test_nobody_but_the_owner_may_call_it(ledger):
    refused(ledger, "42501", "select ledger.verify()")
