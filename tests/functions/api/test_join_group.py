"""ledger.join_group: usernames, deposits, and the entry that it writes."""

from decimal import Decimal

import pytest

from tests.support import balance, call, create, join


def test_adds_the_deposit(ledger, group, record):
    ((username, alice, of_group, amount, entry),) = call(ledger, "join_group", group, "alice", 100)
    assert (username, of_group, amount) == ("alice", group, 100)
    assert call(ledger, "list_participants", group) == [("alice", alice, group, 100)]
    assert record() == [(entry, "join", None, alice, 100, None, 100)]


@pytest.mark.parametrize("amount", [0, 1, 2**63, 2**256 - 1, Decimal("7.00"), Decimal("1e20")])
def test_takes_any_whole_deposit_below_2_256(ledger, group, record, amount):
    ((_, alice, _, joined_with, entry),) = call(ledger, "join_group", group, "alice", amount)
    assert str(joined_with) == str(balance(ledger, group, alice)) == str(int(amount))
    assert record() == [(entry, "join", None, alice, amount, None, amount)]


def test_refuses_a_bad_amount(refuses, group, bad_amount):
    refuses("LG001", ["amount"], "join_group", group, "alice", bad_amount)


def test_keeps_every_character_of_a_username(ledger, group, good_name):
    alice = join(ledger, group, good_name)
    assert call(ledger, "get_participant", group, alice) == [(good_name, alice, group, 100)]


def test_refuses_a_bad_username(refuses, group, bad_name):
    refuses("LG001", ["username"], "join_group", group, bad_name, 100)


@pytest.mark.parametrize("amount", [100, 0, 1])
def test_refuses_to_join_twice(refuses, group, alice, amount):
    refuses("LG005", ["username"], "join_group", group, "alice", amount)


def test_a_username_is_exact(ledger, group, alice):
    assert len({alice, *(join(ledger, group, name) for name in ("Alice", "ALICE", "alice ", "álice"))}) == 5


def test_a_username_is_taken_in_its_own_group_only(ledger, group, alice):
    assert join(ledger, create(ledger, "DAI"), "alice") > alice


def test_the_username_of_a_former_participant_is_free(ledger, group, alice, record):
    call(ledger, "exit_group", group, alice)
    again = join(ledger, group, "alice", 30)
    assert call(ledger, "list_participants", group) == [("alice", again, group, 30)]
    assert [(kind, sender, recipient) for _, kind, sender, recipient, *_ in record()] == [
        ("join", None, alice),
        ("exit", alice, None),
        ("join", None, again),
    ]


def test_a_former_username_of_another_participant_is_free(ledger, group, alice):
    call(ledger, "rename_participant", group, alice, "alicia")
    assert join(ledger, group, "alice") > alice


def test_refuses_an_unknown_group(refuses, group, stranger):
    refuses("LG002", ["group_id"], "join_group", stranger, "alice", 100)


def test_bad_values_are_reported_before_an_unknown_group(refuses, stranger):
    refuses("LG001", ["username", "amount"], "join_group", stranger, "", -1)


def test_refuses_a_null_group(refuses, group):
    refuses("LG001", ["group_id"], "join_group", None, "alice", 100)


@pytest.mark.parametrize(
    ("with_group", "username", "amount", "blamed"),
    [
        (True, None, None, ["username", "amount"]),
        (True, " ", Decimal("1.5"), ["username", "amount"]),
        (False, "alice", -1, ["group_id", "amount"]),
        (False, None, None, ["group_id", "username", "amount"]),
    ],
)
def test_names_every_invalid_value_at_once(refuses, group, with_group, username, amount, blamed):
    refuses("LG001", blamed, "join_group", group if with_group else None, username, amount)
