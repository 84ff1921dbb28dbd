"""ledger.remove_group: only an empty group is removed, and its history stays."""

import pytest

from tests.support import call, join, transfer


def test_removes_a_group_that_nobody_joined(ledger, group, neighbour):
    call(ledger, "remove_group", group)
    assert call(ledger, "list_groups") == [("Neighbour", neighbour)]


def test_removes_a_group_that_everyone_left(ledger, group, alice, bob, neighbour):
    call(ledger, "exit_group", group, alice)
    call(ledger, "exit_group", group, bob)
    call(ledger, "remove_group", group)
    assert call(ledger, "list_groups") == [("Neighbour", neighbour)]


def test_refuses_while_a_participant_is_present(refuses, ledger, group, alice, bob):
    call(ledger, "exit_group", group, alice)
    refuses("LG004", ["group_id"], "remove_group", group)


def test_refuses_while_a_participant_without_money_is_present(refuses, ledger, group):
    join(ledger, group, "carol", 0)
    refuses("LG004", ["group_id"], "remove_group", group)


def test_keeps_the_record(ledger, group, alice, bob, record):
    transfer(ledger, group, alice, bob, 100)
    for participant in (alice, bob):
        call(ledger, "exit_group", group, participant)
    before = record()
    call(ledger, "remove_group", group)
    assert record() == before
    assert len(before) == 5


def test_refuses_an_unknown_group(refuses, group, stranger):
    refuses("LG002", ["group_id"], "remove_group", stranger)


def test_refuses_null(refuses, group):
    refuses("LG001", ["group_id"], "remove_group", None)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("get_group", []),
        ("rename_group", ["ETC"]),
        ("remove_group", []),
        ("group_total", []),
        ("list_participants", []),
        ("join_group", ["carol", 100]),
        ("get_participant", ["alice"]),
        ("rename_participant", ["alice", "carol"]),
        ("exit_group", ["alice"]),
        ("transfer", ["alice", "bob", 1]),
    ],
)
def test_a_removed_group_is_unknown_to_every_function(refuses, ledger, group, alice, bob, function, arguments):
    for participant in (alice, bob):
        call(ledger, "exit_group", group, participant)
    call(ledger, "remove_group", group)
    ids = {"alice": alice, "bob": bob}
    refuses("LG002", ["group_id"], function, group, *(ids.get(argument, argument) for argument in arguments))
