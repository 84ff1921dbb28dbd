"""ledger.get_participant: a present participant, with the balance."""

import pytest

from tests.support import call, join


def test_shows_that_participant(ledger, group, alice, bob):
    assert call(ledger, "get_participant", group, alice) == [("alice", alice, group, 100)]
    assert call(ledger, "get_participant", group, bob) == [("bob", bob, group, 100)]


def test_shows_a_balance_above_64_bits(ledger, group):
    whale = join(ledger, group, "whale", 2**256 - 1)
    assert call(ledger, "get_participant", group, whale) == [("whale", whale, group, 2**256 - 1)]


def test_refuses_a_participant_who_left(refuses, ledger, group, alice):
    call(ledger, "exit_group", group, alice)
    refuses("LG002", ["participant_id"], "get_participant", group, alice)


def test_refuses_an_unknown_participant(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "get_participant", group, stranger)


def test_refuses_a_participant_of_another_group(refuses, group, alice, neighbour):
    refuses("LG002", ["participant_id"], "get_participant", neighbour, alice)


def test_refuses_an_unknown_group(refuses, group, alice, stranger):
    refuses("LG002", ["group_id"], "get_participant", stranger, alice)


@pytest.mark.parametrize("blamed", [["group_id"], ["participant_id"], ["group_id", "participant_id"]])
def test_refuses_null(refuses, group, alice, blamed):
    arguments = {"group_id": group, "participant_id": alice} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "get_participant", *arguments.values())
