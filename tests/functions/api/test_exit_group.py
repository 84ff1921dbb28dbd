"""ledger.exit_group: the final amount, and the state after an exit."""

import pytest

from tests.support import balance, call, join, transfer


def test_takes_the_balance_out(ledger, group, alice, bob, record):
    transfer(ledger, group, bob, alice, 50)
    ((final_amount, entry),) = call(ledger, "exit_group", group, alice)
    assert final_amount == 150
    assert record()[3:] == [(entry, "exit", alice, None, 150, 0, None)]
    assert call(ledger, "list_participants", group) == [("bob", bob, group, 50)]


@pytest.mark.parametrize("amount", [0, 1, 2**256 - 1])
def test_takes_out_whatever_the_balance_is(ledger, group, alice, record, amount):
    carol = join(ledger, group, "carol", amount)
    ((final_amount, entry),) = call(ledger, "exit_group", group, carol)
    assert final_amount == amount
    assert record()[2:] == [(entry, "exit", carol, None, amount, 0, None)]
    assert balance(ledger, group, alice) == 100


def test_refuses_to_exit_twice(refuses, ledger, group, alice):
    call(ledger, "exit_group", group, alice)
    refuses("LG002", ["participant_id"], "exit_group", group, alice)


def test_joining_again_makes_another_participant(refuses, ledger, group, alice):
    call(ledger, "exit_group", group, alice)
    again = join(ledger, group, "alice", 30)
    refuses("LG002", ["participant_id"], "exit_group", group, alice)
    assert call(ledger, "exit_group", group, again)[0][0] == 30


def test_refuses_an_unknown_participant(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "exit_group", group, stranger)


def test_refuses_a_participant_of_another_group(refuses, group, alice, neighbour):
    refuses("LG002", ["participant_id"], "exit_group", neighbour, alice)


def test_refuses_an_unknown_group(refuses, group, alice, stranger):
    refuses("LG002", ["group_id"], "exit_group", stranger, alice)


@pytest.mark.parametrize("blamed", [["group_id"], ["participant_id"], ["group_id", "participant_id"]])
def test_refuses_null(refuses, group, alice, blamed):
    arguments = {"group_id": group, "participant_id": alice} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "exit_group", *arguments.values())
