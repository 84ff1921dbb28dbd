"""ledger.transfer: movements and refusals."""

from decimal import Decimal

import pytest

from tests.support import balance, call, join, one, transfer


@pytest.fixture
def neighbours_alice(ledger, neighbour):
    return call(ledger, "list_participants", neighbour)[0][1]


@pytest.mark.parametrize("upward", [True, False])
def test_moves_the_amount(ledger, group, alice, bob, record, upward):
    sender, recipient = (alice, bob) if upward else (bob, alice)
    row = one(
        ledger,
        "select (to_participant).id, (to_participant).group_id, (to_participant).amount, "
        "(from_participant).id, (from_participant).group_id, (from_participant).amount, entry_id "
        "from ledger.transfer(%s, %s, %s, 30)",
        [group, sender, recipient],
    )
    assert row[:6] == (recipient, group, 130, sender, group, 70)
    assert (balance(ledger, group, sender), balance(ledger, group, recipient)) == (70, 130)
    assert record()[2:] == [(row[6], "transfer", sender, recipient, 30, 70, 130)]


def test_shows_the_usernames(ledger, group, alice, bob):
    query = "select (to_participant).username, (from_participant).username from ledger.transfer(%s, %s, %s, 1)"
    assert one(ledger, query, [group, bob, alice]) == ("alice", "bob")


def test_leaves_others_alone(ledger, group, alice, bob):
    carol = join(ledger, group, "carol", 100)
    transfer(ledger, group, alice, carol, 1)
    assert [balance(ledger, group, participant) for participant in (alice, bob, carol)] == [99, 100, 101]


@pytest.mark.parametrize("amount", [1, 99, 100, Decimal("50.0"), Decimal("1e2")])
def test_moves_any_whole_amount_up_to_the_balance(ledger, group, alice, bob, record, amount):
    entry = transfer(ledger, group, alice, bob, amount)
    held = balance(ledger, group, alice), balance(ledger, group, bob)
    assert tuple(map(str, held)) == (str(int(100 - amount)), str(int(100 + amount)))
    assert record()[2:] == [(entry, "transfer", alice, bob, amount, *held)]


def test_refuses_to_overdraw(refuses, group, alice, bob):
    refuses("LG003", ["amount"], "transfer", group, bob, alice, 101)
    refuses("LG003", ["amount"], "transfer", group, bob, alice, 2**256 - 101)


def test_refuses_to_overdraw_by_two_transfers(refuses, ledger, group, alice, bob):
    transfer(ledger, group, alice, bob, 60)
    refuses("LG003", ["amount"], "transfer", group, alice, bob, 60)


def test_a_participant_without_money_can_receive_but_not_send(refuses, ledger, group, alice):
    carol = join(ledger, group, "carol", 0)
    refuses("LG003", ["amount"], "transfer", group, carol, alice, 1)
    transfer(ledger, group, alice, carol, 1)
    assert balance(ledger, group, carol) == 1


def test_takes_the_recipient_up_to_the_last_amount_below_2_256(ledger, group, alice, record):
    whale = join(ledger, group, "whale", 2**256 - 101)
    entry = transfer(ledger, group, alice, whale, 100)
    assert balance(ledger, group, whale) == 2**256 - 1
    assert record()[-1] == (entry, "transfer", alice, whale, 100, 0, 2**256 - 1)


@pytest.mark.parametrize("held", [2**256 - 100, 2**256 - 1])
def test_refuses_to_take_the_recipient_to_2_256(refuses, ledger, group, alice, held):
    whale = join(ledger, group, "whale", held)
    refuses("LG001", ["amount"], "transfer", group, alice, whale, 100)


def test_moves_the_greatest_amount(ledger, group):
    whale, krill = join(ledger, group, "whale", 2**256 - 1), join(ledger, group, "krill", 0)
    transfer(ledger, group, whale, krill, 2**256 - 1)
    assert (balance(ledger, group, whale), balance(ledger, group, krill)) == (0, 2**256 - 1)


def test_refuses_a_bad_amount(refuses, group, alice, bob, bad_amount):
    refuses("LG001", ["amount"], "transfer", group, alice, bob, bad_amount)


def test_refuses_to_transfer_zero(refuses, group, alice, bob):
    refuses("LG001", ["amount"], "transfer", group, alice, bob, 0)


def test_refuses_a_transfer_to_oneself(refuses, group, alice):
    refuses("LG001", ["to_id"], "transfer", group, alice, alice, 1)


@pytest.mark.parametrize("blamed", [["from_id"], ["to_id"], ["from_id", "to_id"]])
def test_refuses_participants_who_left(refuses, ledger, group, alice, bob, blamed):
    ids = {"from_id": alice, "to_id": bob}
    for field in blamed:
        call(ledger, "exit_group", group, ids[field])
    refuses("LG002", blamed, "transfer", group, alice, bob, 1)


@pytest.mark.parametrize("blamed", [["from_id"], ["to_id"], ["from_id", "to_id"]])
def test_refuses_unknown_participants(refuses, group, alice, bob, blamed):
    ids = {"from_id": alice, "to_id": bob} | {field: 2**63 - len(field) for field in blamed}
    refuses("LG002", blamed, "transfer", group, *ids.values(), 1)


def test_refuses_an_id_that_no_participant_has(refuses, group, alice, stranger):
    refuses("LG002", ["to_id"], "transfer", group, alice, stranger, 1)


def test_refuses_a_participant_of_another_group_on_one_side(refuses, group, alice, neighbours_alice):
    refuses("LG002", ["to_id"], "transfer", group, alice, neighbours_alice, 1)
    refuses("LG002", ["from_id"], "transfer", group, neighbours_alice, alice, 1)


def test_refuses_a_pair_of_another_group(refuses, group, alice, bob, neighbour):
    refuses("LG002", ["from_id", "to_id"], "transfer", neighbour, alice, bob, 1)


def test_refuses_an_unknown_group(refuses, group, alice, bob, stranger):
    refuses("LG002", ["group_id"], "transfer", stranger, alice, bob, 1)


def test_bad_values_are_reported_before_unknown_ids(refuses, group, stranger):
    refuses("LG001", ["amount"], "transfer", group, stranger, 1, 0)
    refuses("LG001", ["to_id"], "transfer", group, stranger, stranger, 1)


def test_unknown_ids_are_reported_before_missing_funds(refuses, group, alice, stranger):
    refuses("LG002", ["to_id"], "transfer", group, alice, stranger, 101)


@pytest.mark.parametrize(
    "blamed",
    [
        ["group_id"],
        ["from_id"],
        ["to_id"],
        ["from_id", "to_id"],
        ["group_id", "amount"],
        ["from_id", "to_id", "amount"],
        ["group_id", "from_id", "to_id", "amount"],
    ],
)
def test_names_every_null_at_once(refuses, group, alice, bob, blamed):
    arguments = {"group_id": group, "from_id": alice, "to_id": bob, "amount": 1} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "transfer", *arguments.values())


def test_names_every_invalid_value_at_once(refuses, group, alice):
    refuses("LG001", ["to_id", "amount"], "transfer", group, alice, alice, Decimal("NaN"))
