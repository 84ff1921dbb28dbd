"""ledger.reverse_transfer: the amount of a transfer goes back, once."""

import json
from collections.abc import Callable

import psycopg
import pytest

from tests.functions.conftest import behind, rows
from tests.support import balance, call, join, one, transfer

LARGEST = 2**256 - 1

Reverses = Callable[..., dict]


@pytest.fixture
def reverses(ledger: psycopg.Connection, group: int) -> Reverses:
    """Reverse an entry of the group; the answer as JSON."""

    def reverse(entry: int, key: str | None = None, metadata: dict | None = None) -> dict:
        query = "select to_json(r) from ledger.reverse_transfer(%s, %s, %s, %s) as r"
        return one(ledger, query, [group, entry, key, None if metadata is None else json.dumps(metadata)])[0]

    return reverse


def shown(ledger: psycopg.Connection, group: int, entry: int) -> dict:
    return one(ledger, "select to_json(e) from ledger.get_entry(%s, %s) as e", [group, entry])[0]


def balances(ledger: psycopg.Connection, group: int, *participants: int) -> list[int]:
    return [balance(ledger, group, participant) for participant in participants]


@pytest.fixture
def entry(ledger: psycopg.Connection, group: int, alice: int, bob: int) -> int:
    """A transfer of 30 from alice to bob, who then hold 70 and 130."""
    return transfer(ledger, group, alice, bob, 30)


def test_moves_the_amount_back(ledger, group, alice, bob, entry, record, reverses):
    reversal = reverses(entry)
    assert record()[3:] == [(reversal["id"], "transfer", bob, alice, 30, 100, 100)]
    assert balances(ledger, group, alice, bob) == [100, 100]


def test_returns_the_new_entry_with_the_one_it_reverses(ledger, group, alice, bob, entry, reverses):
    reversal = reverses(entry, metadata={"why": "typo"})
    assert reversal.pop("replayed") is False
    assert reversal == shown(ledger, group, reversal["id"])
    members = ("group_id", "kind", "from_id", "to_id", "amount", "from_amount", "to_amount", "reverses", "reversed_by")
    assert [reversal[name] for name in members] == [group, "transfer", bob, alice, 30, 100, 100, entry, None]
    assert reversal["metadata"] == {"why": "typo"}


def test_the_reversed_entry_shows_its_reversal_and_is_otherwise_unchanged(ledger, group, alice, bob, reverses):
    query = "select entry_id from ledger.transfer(%s, %s, %s, 30, null, '{\"invoice\": 7}')"
    (entry,) = one(ledger, query, [group, alice, bob])
    before, written = shown(ledger, group, entry), rows(ledger, group)["entries"]
    reversal = reverses(entry)
    assert before["reversed_by"] is None
    assert shown(ledger, group, entry) == before | {"reversed_by": reversal["id"]}
    assert rows(ledger, group)["entries"][:-1] == written
    assert reversal["metadata"] is None


def test_both_show_in_the_list(ledger, group, entry, reverses):
    other = transfer(
        ledger, group, *one(ledger, "select from_id, to_id from ledger.get_entry(%s, %s)", [group, entry]), 1
    )
    reversal = reverses(entry)["id"]
    query = "select id, reverses, reversed_by from ledger.list_entries(%s, 'transfer')"
    assert ledger.execute(query, [group]).fetchall() == [
        (entry, None, reversal),
        (other, None, None),
        (reversal, entry, None),
    ]


def test_reverses_after_other_transfers(ledger, group, alice, bob, entry, reverses):
    carol = join(ledger, group, "carol", 0)
    transfer(ledger, group, bob, carol, 100)
    reverses(entry)
    assert balances(ledger, group, alice, bob, carol) == [100, 0, 100]


def test_takes_back_any_money_that_the_recipient_holds(ledger, group, alice, bob, entry, refuses, reverses):
    carol = join(ledger, group, "carol", 30)
    transfer(ledger, group, bob, carol, 130)
    refuses("LG003", ["amount"], "reverse_transfer", group, entry)
    transfer(ledger, group, carol, bob, 29)
    refuses("LG003", ["amount"], "reverse_transfer", group, entry)
    transfer(ledger, group, carol, bob, 1)
    assert reverses(entry)["from_amount"] == 0
    assert balances(ledger, group, alice, bob, carol) == [100, 0, 130]


def test_reverses_one_line_of_many(ledger, group, alice, bob, reverses):
    carol = join(ledger, group, "carol", 0)
    lines = [{"from": alice, "to": bob, "amount": 5}, {"from": bob, "to": carol, "amount": 7}]
    query = "select (entries[2]).id from ledger.transfer_all(%s, %s)"
    (entry,) = one(ledger, query, [group, json.dumps(lines)])
    assert reverses(entry)["amount"] == 7
    assert balances(ledger, group, alice, bob, carol) == [95, 105, 0]


def test_reverses_each_of_several_transfers_alike(ledger, group, alice, bob, entry, reverses):
    other = transfer(ledger, group, alice, bob, 30)
    assert [reverses(each)["reverses"] for each in (other, entry)] == [other, entry]
    assert balances(ledger, group, alice, bob) == [100, 100]


def test_a_reversal_is_a_transfer_that_can_be_reversed(ledger, group, alice, bob, entry, refuses, reverses):
    reversal = reverses(entry)["id"]
    assert reverses(reversal)["reverses"] == reversal
    assert balances(ledger, group, alice, bob) == [70, 130]
    refuses("LG007", ["entry_id"], "reverse_transfer", group, entry)
    refuses("LG007", ["entry_id"], "reverse_transfer", group, reversal)


def test_moves_the_largest_amount_back_exactly(ledger, group, record, reverses):
    whale, krill = join(ledger, group, "whale", LARGEST), join(ledger, group, "krill", 0)
    reversal = reverses(transfer(ledger, group, whale, krill, LARGEST), "key")
    assert [reversal[name] for name in ("amount", "from_amount", "to_amount")] == [LARGEST, 0, LARGEST]
    assert record()[-1] == (reversal["id"], "transfer", krill, whale, LARGEST, 0, LARGEST)


def test_the_time_is_not_before_the_last_entry_of_either_side(ledger, group, alice, bob, entry, reverses):
    with behind(ledger):
        query = (
            "update ledger.participants set moved_at = moved_at + interval '1 hour' where id = %s returning moved_at"
        )
        (ahead,) = one(ledger, query, [bob])
    query = "select created_at from ledger.get_entry(%s, %s)"
    assert one(ledger, query, [group, reverses(entry)["id"]]) == (ahead,)


# Refusals.


def test_refuses_to_reverse_twice(group, entry, refuses, reverses):
    reverses(entry)
    refuses("LG007", ["entry_id"], "reverse_transfer", group, entry)
    refuses("LG007", ["entry_id"], "reverse_transfer", group, entry, "key", '{"again": true}')


def test_an_earlier_reversal_is_reported_before_missing_funds(ledger, group, alice, bob, entry, refuses, reverses):
    reverses(entry)
    transfer(ledger, group, bob, alice, 100)
    refuses("LG007", ["entry_id"], "reverse_transfer", group, entry)


@pytest.mark.parametrize("left", [0, 29])
def test_refuses_when_the_recipient_no_longer_holds_it(ledger, group, bob, entry, refuses, left):
    transfer(ledger, group, bob, join(ledger, group, "carol", 0), 130 - left)
    refuses("LG003", ["amount"], "reverse_transfer", group, entry)


@pytest.mark.parametrize("leave", [["alice"], ["bob"], ["alice", "bob"]])
def test_refuses_when_a_side_has_left(ledger, group, alice, bob, entry, refuses, leave):
    for username in leave:
        call(ledger, "exit_group", group, {"alice": alice, "bob": bob}[username])
    refuses("LG002", ["participant_id"], "reverse_transfer", group, entry)


@pytest.mark.parametrize("leaver", ["alice", "bob"])
def test_joining_again_does_not_make_a_transfer_reversible(ledger, group, alice, bob, entry, refuses, leaver):
    call(ledger, "exit_group", group, {"alice": alice, "bob": bob}[leaver])
    join(ledger, group, leaver, 1000)
    refuses("LG002", ["participant_id"], "reverse_transfer", group, entry)


def test_a_participant_who_left_is_reported_before_an_earlier_reversal(ledger, group, alice, entry, refuses, reverses):
    reverses(entry)
    call(ledger, "exit_group", group, alice)
    refuses("LG002", ["participant_id"], "reverse_transfer", group, entry)


def test_refuses_to_take_the_sender_to_2_256(ledger, group, alice, bob, entry, refuses, reverses):
    whale = join(ledger, group, "whale", LARGEST - 99)
    transfer(ledger, group, whale, alice, LARGEST - 99)
    refuses("LG001", ["amount"], "reverse_transfer", group, entry)
    transfer(ledger, group, alice, whale, 1)
    assert reverses(entry)["to_amount"] == LARGEST


@pytest.mark.parametrize("kind", ["join", "deposit", "exit"])
def test_refuses_an_entry_that_is_no_transfer(ledger, group, alice, bob, record, refuses, kind):
    call(ledger, "deposit", group, bob, 5)
    call(ledger, "exit_group", group, bob)
    (entry,) = [row[0] for row in record() if row[1] == kind][-1:]
    refuses("LG001", ["entry_id"], "reverse_transfer", group, entry)


def test_refuses_an_unknown_entry(group, entry, refuses, stranger):
    refuses("LG002", ["entry_id"], "reverse_transfer", group, stranger)


def test_refuses_an_entry_of_another_group(ledger, group, alice, bob, entry, neighbour, refuses):
    refuses("LG002", ["entry_id"], "reverse_transfer", neighbour, entry)
    joined = one(ledger, "select min(id) from ledger.list_entries(%s)", [neighbour])[0]
    refuses("LG002", ["entry_id"], "reverse_transfer", group, joined)


def test_refuses_an_unknown_group(entry, refuses, stranger):
    refuses("LG002", ["group_id"], "reverse_transfer", stranger, entry)


def test_refuses_a_removed_group(ledger, group, alice, bob, entry, refuses):
    for participant in (alice, bob):
        call(ledger, "exit_group", group, participant)
    call(ledger, "remove_group", group)
    refuses("LG002", ["group_id"], "reverse_transfer", group, entry)


@pytest.mark.parametrize(
    "metadata", ["[]", "5", "null", '"{}"', json.dumps({"note": "x" * 4085})], ids=lambda value: value[:10]
)
def test_refuses_bad_metadata(group, entry, refuses, metadata):
    refuses("LG001", ["metadata"], "reverse_transfer", group, entry, None, metadata)


@pytest.mark.parametrize(
    "blamed",
    [
        ["group_id"],
        ["entry_id"],
        ["idempotency_key"],
        ["group_id", "entry_id"],
        ["group_id", "entry_id", "idempotency_key", "metadata"],
    ],
)
def test_names_every_bad_argument_at_once(group, entry, refuses, blamed):
    arguments = {"group_id": group, "entry_id": entry, "idempotency_key": "key", "metadata": "{}"}
    bad = {"group_id": None, "entry_id": None, "idempotency_key": "a b", "metadata": "[]"}
    refuses("LG001", blamed, "reverse_transfer", *(arguments | {name: bad[name] for name in blamed}).values())


# Idempotency keys.


def test_a_repeated_request_is_done_once_and_gets_the_same_answer(ledger, entry, reverses):
    first = reverses(entry, "key", {"why": "typo"})
    before = rows(ledger)
    assert reverses(entry, "key", {"why": "typo"}) == first | {"replayed": True}
    assert rows(ledger) == before


def test_another_request_with_the_idempotency_key_is_refused(ledger, group, alice, bob, entry, refuses, reverses):
    other = transfer(ledger, group, alice, bob, 30)
    reverses(entry, "key")
    refuses("LG006", ["idempotency_key"], "reverse_transfer", group, other, "key")
    refuses("LG006", ["idempotency_key"], "reverse_transfer", group, entry, "key", "{}")
    refuses("LG006", ["idempotency_key"], "transfer", group, bob, alice, 30, "key")


def test_another_idempotency_key_is_another_request(group, entry, refuses, reverses):
    reverses(entry, "key")
    refuses("LG007", ["entry_id"], "reverse_transfer", group, entry, "another")


def test_a_refused_request_leaves_its_idempotency_key_free(ledger, group, bob, entry, refuses, reverses):
    carol = join(ledger, group, "carol", 0)
    transfer(ledger, group, bob, carol, 130)
    refuses("LG003", ["amount"], "reverse_transfer", group, entry, "key")
    transfer(ledger, group, carol, bob, 130)
    assert reverses(entry, "key")["replayed"] is False


def test_the_first_answer_is_repeated_after_everything_has_changed(ledger, group, alice, bob, entry, reverses):
    first = reverses(entry, "key")
    reverses(first["id"])
    for participant in (alice, bob):
        call(ledger, "exit_group", group, participant)
    call(ledger, "remove_group", group)
    assert reverses(entry, "key") == first | {"replayed": True}
