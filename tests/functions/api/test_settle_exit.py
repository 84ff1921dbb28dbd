"""ledger.settle_exit: record once which transaction on the main network paid an exit out."""

from collections.abc import Callable

import psycopg
import pytest

from tests.functions.conftest import BAD_REFERENCES, behind, rows
from tests.support import call, join, one, refused, transfer

REFERENCE = "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060"

Settles = Callable[..., dict]


@pytest.fixture
def settles(ledger: psycopg.Connection, group: int) -> Settles:
    """Settle an exit of the group; the answer as JSON."""

    def settle(entry: int, reference: str = REFERENCE, key: str | None = None) -> dict:
        query = "select to_json(s) from ledger.settle_exit(%s, %s, %s, %s) as s"
        return one(ledger, query, [group, entry, reference, key])[0]

    return settle


@pytest.fixture
def leaves(ledger: psycopg.Connection, group: int) -> Callable[[int], int]:
    """Exit; the id of the entry."""
    return lambda participant: call(ledger, "exit_group", group, participant)[0][1]


@pytest.fixture
def entry(leaves, alice: int, bob: int) -> int:
    """The exit of bob with 100."""
    return leaves(bob)


def shown(ledger: psycopg.Connection, group: int, entry: int) -> dict:
    return one(ledger, "select to_json(e) from ledger.get_entry(%s, %s) as e", [group, entry])[0]


def settlements(ledger: psycopg.Connection) -> list[tuple]:
    with behind(ledger):
        return ledger.execute("table ledger.settlements order by group_id, entry_id").fetchall()


def work_list(ledger: psycopg.Connection, group: int, settled: bool) -> list[int]:
    query = "select id from ledger.list_entries(%s, settled => %s)"
    return [entry for (entry,) in ledger.execute(query, [group, settled])]


def test_records_the_reference_and_the_time(ledger, group, bob, entry, settles):
    before = shown(ledger, group, entry)
    (begun,) = one(ledger, "select clock_timestamp()")
    settled = settles(entry)
    assert (before["reference"], before["settled_at"]) == (None, None)
    assert settled.pop("replayed") is False
    assert settled == before | {"reference": REFERENCE, "settled_at": settled["settled_at"]}
    assert (settled["id"], settled["kind"], settled["from_id"], settled["amount"]) == (entry, "exit", bob, 100)
    query = "select %s <= settled_at and settled_at <= clock_timestamp() from ledger.get_entry(%s, %s)"
    assert one(ledger, query, [begun, group, entry]) == (True,)


def test_the_entry_shows_the_settlement(ledger, group, entry, settles):
    settled = settles(entry)
    del settled["replayed"]
    assert shown(ledger, group, entry) == settled
    query = "select to_json(e) from ledger.list_entries(%s, 'exit') as e"
    assert one(ledger, query, [group]) == (settled,)


def test_leaves_every_row_of_the_books_as_it_was(ledger, entry, settles):
    before = rows(ledger)
    settles(entry)
    assert rows(ledger) == before


@pytest.mark.parametrize(
    "change", ["reference = 'x'", "settled_at = clock_timestamp()", "settled_xid = '4'", "settled_xid = null"]
)
def test_is_final_but_for_the_transaction_that_a_restore_replaces(ledger, entry, settles, change):
    settles(entry)
    with behind(ledger):
        refused(ledger, "23001", f"update ledger.settlements set {change}")
        ledger.execute("update ledger.settlements set settled_xid = '3' where settled_at is not null")


def test_settles_one_exit_of_many(ledger, group, alice, bob, leaves, settles):
    exits = [leaves(participant) for participant in (bob, alice)]
    other = shown(ledger, group, exits[0])
    settles(exits[1])
    assert shown(ledger, group, exits[0]) == other


def test_the_largest_final_amount_is_shown_exactly(ledger, group, leaves, settles):
    exited = leaves(join(ledger, group, "whale", 2**256 - 1))
    assert settles(exited, key="key")["amount"] == 2**256 - 1
    assert settles(exited, key="key")["amount"] == 2**256 - 1


def test_one_reference_can_pay_out_many_exits(group, alice, bob, leaves, settles):
    assert [settles(leaves(each), "0xbatch")["reference"] for each in (alice, bob)] == ["0xbatch", "0xbatch"]


def test_an_exit_is_listed_as_unsettled_until_it_is_settled(ledger, group, alice, bob, neighbour, leaves, settles):
    carol = join(ledger, group, "carol", 0)
    transfer(ledger, group, alice, bob, 1)
    first, second, third = leaves(bob), leaves(carol), leaves(alice)
    assert work_list(ledger, group, settled=False) == [first, second, third]
    assert work_list(ledger, group, settled=True) == []
    settles(second)
    settles(first)
    assert work_list(ledger, group, settled=False) == [third]
    assert work_list(ledger, group, settled=True) == [first, second]
    assert work_list(ledger, neighbour, settled=False) == []


def test_an_exit_of_a_removed_group_can_be_settled(ledger, group, alice, entry, leaves, settles):
    leaves(alice)
    call(ledger, "remove_group", group)
    assert settles(entry)["reference"] == REFERENCE
    assert shown(ledger, group, entry)["reference"] == REFERENCE


def test_the_time_is_not_before_the_exit(ledger, group, alice, bob, leaves, settles):
    with behind(ledger):
        ledger.execute("update ledger.participants set moved_at = moved_at + interval '1 hour' where id = %s", [bob])
    exited = leaves(bob)
    settled = settles(exited)
    assert settled["settled_at"] == settled["created_at"]


def test_the_same_reference_again_changes_nothing(ledger, entry, settles):
    first = settles(entry)
    before = settlements(ledger), rows(ledger)
    assert settles(entry, REFERENCE) == first | {"replayed": True}
    assert (settlements(ledger), rows(ledger)) == before


@pytest.mark.parametrize("other", ["0x5c", REFERENCE.upper(), f"{REFERENCE} ", f" {REFERENCE}", f"{REFERENCE}\u200b"])
def test_refuses_another_reference(ledger, group, entry, refuses, settles, other):
    settles(entry)
    before = settlements(ledger)
    refuses("LG008", ["reference"], "settle_exit", group, entry, other)
    refuses("LG008", ["reference"], "settle_exit", group, entry, other, "key")
    assert settlements(ledger) == before


def test_takes_a_reference_of_any_visible_characters(ledger, group, entry, settles, good_name):
    assert settles(entry, good_name)["reference"] == good_name
    assert shown(ledger, group, entry)["reference"] == good_name


@pytest.mark.parametrize("bad_reference", BAD_REFERENCES.values(), ids=BAD_REFERENCES.keys())
def test_refuses_a_bad_reference(ledger, group, entry, refuses, bad_reference):
    refuses("LG001", ["reference"], "settle_exit", group, entry, bad_reference)
    assert work_list(ledger, group, settled=False) == [entry]


def test_a_bad_reference_is_reported_for_a_settled_exit_as_well(group, entry, refuses, settles):
    settles(entry)
    refuses("LG001", ["reference"], "settle_exit", group, entry, "")


@pytest.mark.parametrize("kind", ["join", "deposit", "transfer"])
def test_refuses_an_entry_that_is_no_exit(ledger, group, alice, bob, record, refuses, kind):
    transfer(ledger, group, alice, bob, 1)
    call(ledger, "deposit", group, bob, 5)
    entry = next(row[0] for row in record() if row[1] == kind)
    before = settlements(ledger)
    refuses("LG001", ["entry_id"], "settle_exit", group, entry, REFERENCE)
    assert settlements(ledger) == before


def test_refuses_an_unknown_entry(group, entry, refuses, stranger):
    refuses("LG002", ["entry_id"], "settle_exit", group, stranger, REFERENCE)


def test_refuses_an_exit_of_another_group(ledger, group, entry, neighbour, refuses):
    refuses("LG002", ["entry_id"], "settle_exit", neighbour, entry, REFERENCE)
    assert work_list(ledger, group, settled=False) == [entry]


def test_refuses_an_unknown_group(entry, refuses, stranger):
    refuses("LG002", ["group_id"], "settle_exit", stranger, entry, REFERENCE)


@pytest.mark.parametrize(
    "blamed",
    [
        ["group_id"],
        ["entry_id"],
        ["reference"],
        ["idempotency_key"],
        ["group_id", "entry_id"],
        ["group_id", "entry_id", "reference", "idempotency_key"],
    ],
)
def test_names_every_bad_argument_at_once(group, entry, refuses, blamed):
    arguments = {"group_id": group, "entry_id": entry, "reference": REFERENCE, "idempotency_key": "key"}
    bad = dict.fromkeys(arguments) | {"idempotency_key": "a b"}
    refuses("LG001", blamed, "settle_exit", *(arguments | {name: bad[name] for name in blamed}).values())


# Idempotency keys.


def test_a_repeated_request_is_done_once_and_gets_the_same_answer(ledger, entry, settles):
    first = settles(entry, key="key")
    before = settlements(ledger), rows(ledger)
    assert first["replayed"] is False
    assert settles(entry, key="key") == first | {"replayed": True}
    assert (settlements(ledger), rows(ledger)) == before


def test_the_same_reference_with_another_idempotency_key_is_a_replay(entry, settles):
    first = settles(entry)
    assert settles(entry, key="key") == first | {"replayed": True}
    assert settles(entry, key="another") == first | {"replayed": True}
    assert settles(entry, key="key") == first | {"replayed": True}


def test_another_request_with_the_idempotency_key_is_refused(ledger, group, alice, entry, leaves, refuses, settles):
    other = leaves(alice)
    settles(entry, key="key")
    refuses("LG006", ["idempotency_key"], "settle_exit", group, other, REFERENCE, "key")
    refuses("LG006", ["idempotency_key"], "settle_exit", group, entry, "another", "key")
    refuses("LG006", ["idempotency_key"], "exit_group", group, alice, "key")
    assert work_list(ledger, group, settled=False) == [other]


def test_a_refused_request_leaves_its_idempotency_key_free(group, alice, entry, leaves, refuses, settles):
    other = leaves(alice)
    settles(entry)
    refuses("LG008", ["reference"], "settle_exit", group, entry, "another", "key")
    assert settles(other, key="key")["replayed"] is False


def test_the_first_answer_is_repeated_after_the_group_is_removed(ledger, group, alice, entry, leaves, settles):
    first = settles(entry, key="key")
    leaves(alice)
    call(ledger, "remove_group", group)
    assert settles(entry, key="key") == first | {"replayed": True}
