"""ledger.get_entry: one entry, with its reversal or settlement."""

import pytest

from tests.functions.conftest import behind
from tests.support import call, create, join, transfer


def test_shows_a_join(ledger, group):
    ((_, carol, _, _, entry),) = call(ledger, "join_group", group, "carol", 50, None, '{"order": 7}')
    ((*shown, created_at, metadata, reverses, reversed_by, reference, settled_at),) = call(
        ledger, "get_entry", group, entry
    )
    assert shown == [group, entry, "join", None, carol, 50, None, 50]
    assert created_at is not None
    assert (metadata, reverses, reversed_by, reference, settled_at) == ({"order": 7}, None, None, None, None)


def test_shows_a_transfer_with_the_balances_after_it(ledger, group, alice, bob):
    entry = transfer(ledger, group, alice, bob, 30)
    transfer(ledger, group, alice, bob, 1)
    assert call(ledger, "get_entry", group, entry)[0][:8] == (group, entry, "transfer", alice, bob, 30, 70, 130)


def test_shows_an_exit(ledger, group, alice):
    ((_, entry),) = call(ledger, "exit_group", group, alice)
    (shown,) = call(ledger, "get_entry", group, entry)
    assert shown[:8] == (group, entry, "exit", alice, None, 100, 0, None)
    assert shown[9:] == (None, None, None, None, None)


def test_shows_the_settlement_of_an_exit(ledger, group, alice):
    ((_, entry),) = call(ledger, "exit_group", group, alice)
    call(ledger, "settle_exit", group, entry, "0xabc")
    ((*_, created_at, _, _, _, reference, settled_at),) = call(ledger, "get_entry", group, entry)
    assert reference == "0xabc"
    assert settled_at >= created_at


def test_shows_the_reversed_and_the_reversing_entry(ledger, group, alice, bob):
    entry = transfer(ledger, group, alice, bob, 30)
    reversal = call(ledger, "reverse_transfer", group, entry)[0][1]
    assert call(ledger, "get_entry", group, entry)[0][10:12] == (None, reversal)
    assert call(ledger, "get_entry", group, reversal)[0][10:12] == (entry, None)


@pytest.mark.parametrize("kind", ["join", "deposit", "transfer", "exit"])
def test_shows_the_entry_as_a_list_does(ledger, group, alice, bob, kind):
    transfer(ledger, group, alice, bob, 30)
    call(ledger, "deposit", group, bob, 5)
    call(ledger, "exit_group", group, alice)
    listed = call(ledger, "list_entries", group, kind)
    assert listed
    for entry in listed:
        assert call(ledger, "get_entry", group, entry[1]) == [entry]


def test_shows_an_entry_of_a_group_that_was_removed(ledger, group, alice):
    ((_, entry),) = call(ledger, "exit_group", group, alice)
    call(ledger, "remove_group", group)
    assert call(ledger, "get_entry", group, entry)[0][:3] == (group, entry, "exit")


def test_the_same_number_in_two_groups_is_two_entries(ledger, group, alice):
    # The server numbers entries across groups, but their key begins with the group: imported rows may share a number.
    other = create(ledger, "Other")
    theirs = join(ledger, other, "alice", 0)
    ((entry, *_),) = [(e[1],) for e in call(ledger, "list_entries", group)]
    with behind(ledger):
        ledger.execute(
            "insert into ledger.entries (group_id, id, kind, from_id, amount, from_amount) "
            "overriding system value values (%s, %s, 'exit', %s, 0, 0)",
            [other, entry, theirs],
        )
    assert call(ledger, "get_entry", group, entry)[0][:5] == (group, entry, "join", None, alice)
    assert call(ledger, "get_entry", other, entry)[0][:5] == (other, entry, "exit", theirs, None)


def test_refuses_an_unknown_entry(refuses, group, alice, stranger):
    refuses("LG002", ["entry_id"], "get_entry", group, stranger)


def test_refuses_an_entry_of_another_group(refuses, ledger, group, alice, neighbour):
    theirs = call(ledger, "list_entries", neighbour)[0][1]
    refuses("LG002", ["entry_id"], "get_entry", group, theirs)


def test_refuses_an_unknown_entry_of_a_removed_group(refuses, ledger, group, stranger):
    call(ledger, "remove_group", group)
    refuses("LG002", ["entry_id"], "get_entry", group, stranger)


def test_refuses_an_unknown_group(refuses, ledger, neighbour, stranger):
    entry = call(ledger, "list_entries", neighbour)[0][1]
    refuses("LG002", ["group_id"], "get_entry", stranger, entry)


@pytest.mark.parametrize("blamed", [["group_id"], ["entry_id"], ["group_id", "entry_id"]])
def test_refuses_null(refuses, ledger, neighbour, blamed):
    named = {"group_id": neighbour, "entry_id": call(ledger, "list_entries", neighbour)[0][1]} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "get_entry", *named.values())
