"""ledger.deposit: money that a participant brings in after joining."""

from decimal import Decimal

import pytest

from tests.functions.conftest import behind
from tests.support import balance, call, create, join, one, transfer


def test_adds_to_the_balance(ledger, group, alice, bob, record):
    ((username, of, of_group, amount, entry),) = call(ledger, "deposit", group, alice, 50)
    assert (username, of, of_group, amount) == ("alice", alice, group, 150)
    assert call(ledger, "list_participants", group) == [("alice", alice, group, 150), ("bob", bob, group, 100)]
    assert record()[2:] == [(entry, "deposit", None, alice, 50, None, 150)]


def test_adds_to_the_total(ledger, group, alice):
    ((*_, entry),) = call(ledger, "deposit", group, alice, 50)
    joined = one(ledger, "select id from ledger.list_entries(%s, 'join')", [group])[0]
    assert call(ledger, "group_total", group) == [(150,)]
    assert call(ledger, "group_total", group, None, joined) == [(100,)]
    assert call(ledger, "group_total", group, None, entry) == [(150,)]


@pytest.mark.parametrize("amount", [1, 2**63, 2**256 - 101, Decimal("7.00"), Decimal("1e20")])
def test_takes_any_whole_amount_that_fits_the_balance(ledger, group, alice, record, amount):
    ((_, _, _, now, entry),) = call(ledger, "deposit", group, alice, amount)
    assert str(now) == str(balance(ledger, group, alice)) == str(100 + int(amount))
    assert str(call(ledger, "group_total", group)[0][0]) == str(now)
    assert record()[1:] == [(entry, "deposit", None, alice, amount, None, now)]


@pytest.mark.parametrize("amount", [2**256 - 100, 2**256 - 1])
def test_refuses_to_take_the_balance_to_2_256(refuses, group, alice, amount):
    refuses("LG001", ["amount"], "deposit", group, alice, amount)


def test_a_total_of_several_participants_has_no_bound(ledger, group, alice, bob):
    for participant in (alice, bob):
        call(ledger, "deposit", group, participant, 2**256 - 101)
    assert call(ledger, "group_total", group) == [(2**257 - 2,)]


@pytest.mark.parametrize("amount", [0, Decimal("0.00")])
def test_refuses_an_amount_of_zero(refuses, group, alice, amount):
    refuses("LG001", ["amount"], "deposit", group, alice, amount)


def test_refuses_a_bad_amount(refuses, group, alice, bad_amount):
    refuses("LG001", ["amount"], "deposit", group, alice, bad_amount)


def test_its_money_can_be_transferred_and_leaves_with_the_participant(ledger, group, alice, bob, record):
    call(ledger, "deposit", group, alice, 50)
    transfer(ledger, group, alice, bob, 120)
    call(ledger, "deposit", group, alice, 5)
    assert call(ledger, "exit_group", group, alice)[0][0] == 35
    assert call(ledger, "group_total", group) == [(220,)]
    assert [entry[1] for entry in record()[2:]] == ["deposit", "transfer", "deposit", "exit"]


def test_keeps_metadata(ledger, group, alice):
    entry = call(ledger, "deposit", group, alice, 50, None, '{"transaction": "0x1b"}')[0][4]
    assert one(ledger, "select metadata from ledger.get_entry(%s, %s)", [group, entry]) == ({"transaction": "0x1b"},)


def test_a_past_moment_shows_its_balance(ledger, group, alice, bob):
    earlier = transfer(ledger, group, bob, alice, 1)
    entry = call(ledger, "deposit", group, alice, 50)[0][4]
    call(ledger, "deposit", group, alice, 8)
    amounts = [call(ledger, "get_participant", group, alice, None, at)[0][3] for at in (earlier, entry)]
    assert amounts == [101, 151]


def test_its_time_is_not_before_the_participants_last_entry(ledger, group, alice):
    with behind(ledger):
        ahead = (
            "update ledger.participants set moved_at = clock_timestamp() + '1 hour' where id = %s returning moved_at"
        )
        (moved,) = one(ledger, ahead, [alice])
    entry = call(ledger, "deposit", group, alice, 50)[0][4]
    assert call(ledger, "get_entry", group, entry)[0][8] == moved


def test_refuses_a_participant_who_left(refuses, ledger, group, alice):
    call(ledger, "exit_group", group, alice)
    refuses("LG002", ["participant_id"], "deposit", group, alice, 50)
    join(ledger, group, "alice")
    refuses("LG002", ["participant_id"], "deposit", group, alice, 50)


def test_refuses_an_unknown_participant(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "deposit", group, stranger, 50)


def test_refuses_a_participant_of_another_group(refuses, group, alice, neighbour):
    refuses("LG002", ["participant_id"], "deposit", neighbour, alice, 50)


def test_refuses_an_unknown_group(refuses, alice, stranger):
    refuses("LG002", ["group_id"], "deposit", stranger, alice, 50)


def test_refuses_a_removed_group(refuses, ledger):
    group = create(ledger, "DAI")
    call(ledger, "remove_group", group)
    refuses("LG002", ["group_id"], "deposit", group, 1, 50)


def test_bad_values_are_reported_before_an_unknown_group(refuses, stranger):
    refuses("LG001", ["amount"], "deposit", stranger, stranger, -1)


@pytest.mark.parametrize(
    "blamed", [["group_id"], ["participant_id"], ["amount"], ["group_id", "participant_id", "amount"]]
)
def test_names_every_null_at_once(refuses, group, alice, blamed):
    arguments = {"group_id": group, "participant_id": alice, "amount": 50} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "deposit", *arguments.values())


def test_cannot_be_reversed_or_settled(refuses, ledger, group, alice):
    entry = call(ledger, "deposit", group, alice, 50)[0][4]
    refuses("LG001", ["entry_id"], "reverse_transfer", group, entry)
    refuses("LG001", ["entry_id"], "settle_exit", group, entry, "0x5f")
