"""ledger.get_address: the address of a present participant, with its checksum."""

import pytest

from tests.support import call


def test_is_null_until_one_is_bound(ledger, group, alice):
    assert call(ledger, "get_address", group, alice) == [(None,)]
    call(ledger, "bind_address", group, alice, "0x52908400098527886e0f7030069857d2e4169ee7")
    assert call(ledger, "get_address", group, alice) == [("0x52908400098527886E0F7030069857D2E4169EE7",)]


def test_refuses_a_participant_who_left(refuses, ledger, group, alice):
    call(ledger, "exit_group", group, alice)
    refuses("LG002", ["participant_id"], "get_address", group, alice)


def test_refuses_an_unknown_participant(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "get_address", group, stranger)


def test_refuses_a_participant_of_another_group(refuses, group, alice, neighbour):
    refuses("LG002", ["participant_id"], "get_address", neighbour, alice)


@pytest.mark.parametrize("blamed", [["group_id"], ["participant_id"], ["group_id", "participant_id"]])
def test_refuses_null(refuses, group, alice, blamed):
    arguments = {"group_id": group, "participant_id": alice} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "get_address", *arguments.values())
