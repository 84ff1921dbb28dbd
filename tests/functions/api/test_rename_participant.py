"""ledger.rename_participant: a new username for the same participant."""

import pytest

from tests.support import call, create, join, one


def test_takes_a_username_with_a_collation_of_its_own(ledger, group, alice):
    query = "select username from ledger.rename_participant(%s, %s, 'coly' collate \"POSIX\")"
    assert one(ledger, query, [group, alice]) == ("coly",)


def test_changes_the_username_alone(ledger, group, alice, bob, record):
    before = record()
    assert call(ledger, "rename_participant", group, alice, "alicia") == [("alicia", alice, group, 100)]
    assert call(ledger, "list_participants", group) == [("alicia", alice, group, 100), ("bob", bob, group, 100)]
    assert record() == before


def test_keeps_every_character_of_a_username(ledger, group, alice, good_name):
    assert call(ledger, "rename_participant", group, alice, good_name) == [(good_name, alice, group, 100)]


def test_takes_its_own_username_again(ledger, group, alice):
    assert call(ledger, "rename_participant", group, alice, "alice") == [("alice", alice, group, 100)]


def test_a_username_is_exact(ledger, group, alice, bob):
    assert call(ledger, "rename_participant", group, bob, "Alice") == [("Alice", bob, group, 100)]


def test_takes_the_username_of_a_former_participant(ledger, group, alice, bob):
    call(ledger, "exit_group", group, bob)
    assert call(ledger, "rename_participant", group, alice, "bob") == [("bob", alice, group, 100)]


def test_takes_a_username_of_another_group(ledger, group, alice):
    join(ledger, create(ledger, "DAI"), "carol")
    assert call(ledger, "rename_participant", group, alice, "carol") == [("carol", alice, group, 100)]


def test_refuses_a_bad_username(refuses, group, alice, bad_name):
    refuses("LG001", ["username"], "rename_participant", group, alice, bad_name)


def test_refuses_a_username_in_use(refuses, group, alice, bob):
    refuses("LG005", ["username"], "rename_participant", group, alice, "bob")


def test_refuses_a_participant_who_left(refuses, ledger, group, alice):
    call(ledger, "exit_group", group, alice)
    refuses("LG002", ["participant_id"], "rename_participant", group, alice, "alicia")


def test_refuses_an_unknown_participant(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "rename_participant", group, stranger, "alicia")


def test_refuses_a_participant_of_another_group(refuses, group, alice, neighbour):
    refuses("LG002", ["participant_id"], "rename_participant", neighbour, alice, "alicia")


def test_refuses_an_unknown_group(refuses, group, alice, stranger):
    refuses("LG002", ["group_id"], "rename_participant", stranger, alice, "alicia")


def test_a_bad_username_is_reported_before_an_unknown_participant(refuses, group, stranger):
    refuses("LG001", ["username"], "rename_participant", group, stranger, "")


@pytest.mark.parametrize(
    "blamed",
    [
        ["group_id"],
        ["participant_id"],
        ["group_id", "participant_id"],
        ["participant_id", "username"],
        ["group_id", "participant_id", "username"],
    ],
)
def test_names_every_null_at_once(refuses, group, alice, blamed):
    arguments = {"group_id": group, "participant_id": alice, "username": "alicia"} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "rename_participant", *arguments.values())
