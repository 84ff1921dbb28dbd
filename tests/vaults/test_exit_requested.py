"""exit_requested: a participant who requested an exit at the vault leaves, once."""

import pytest

from tests.support import one
from tests.vaults.conftest import ALICE, BOB, chain_hash


def test_lets_the_participant_leave(bridge, alice, balances, admin, group):
    entry = bridge.call("exit_requested", alice, ALICE, chain_hash(9), 9)["entry_id"]
    query = "select kind, from_id, amount, metadata->>'requested_by' from ledger.record where group_id = %s and id = %s"
    assert one(admin, query, [group, entry]) == ("exit", alice, 100, chain_hash(9))
    assert balances() == {}


def test_again_changes_nothing(bridge, alice):
    assert bridge.call("exit_requested", alice, ALICE, chain_hash(9), 9)["entry_id"] is not None
    for transaction in (chain_hash(9), chain_hash(10)):
        assert bridge.call("exit_requested", alice, ALICE, transaction, 9) == {"entry_id": None}


def test_one_who_has_left_is_only_noted(bridge, alice, ledger, group):
    ledger.execute("select ledger.exit_group(%s, %s)", [group, alice])
    assert bridge.call("exit_requested", alice, ALICE, chain_hash(9), 9)["entry_id"] is None
    made = bridge.publish()
    (leaf,) = bridge.rows("list_unpaid_exits", made["number"])
    assert leaf["requested"] is True


def test_list_open_exits_shows_those_that_no_checkpoint_has(bridge, alice, bob, ledger, group):
    assert bridge.rows("list_open_exits") == []
    entry = one(ledger, "select entry_id from ledger.exit_group(%s, %s)", [group, bob])[0]
    requested = bridge.call("exit_requested", alice, ALICE, *bridge.mined())["entry_id"]
    exits = bridge.rows("list_open_exits")
    assert [(row["exit_entry"], row["participant_id"], row["owner"], row["requested"]) for row in exits] == [
        (entry, bob, BOB, False),
        (requested, alice, ALICE, True),
    ]
    assert len(bridge.close(bridge.publish()["number"])) == 2
    assert bridge.rows("list_open_exits") == []


def test_list_unpaid_exits_shows_which_were_requested(bridge, alice, bob, ledger, group):
    ledger.execute("select ledger.exit_group(%s, %s)", [group, alice])
    bridge.call("exit_requested", bob, BOB, chain_hash(9), 9)
    exits = bridge.rows("list_unpaid_exits", bridge.publish()["number"])
    assert [(leaf["participant_id"], leaf["owner"], leaf["amount"], leaf["requested"]) for leaf in exits] == [
        (alice, ALICE, 100, False),
        (bob, BOB, 50, True),
    ]


def test_somebody_else_is_refused(bridge, alice, bob):
    for participant, owner in ((alice, BOB), (bob, ALICE), (999, ALICE)):
        bridge.refused("LG013", "exit_requested", participant, owner, chain_hash(9), 9)


@pytest.mark.parametrize("values", [(None, 9), (chain_hash(9), -1), ("0x9", 9)])
def test_refuses_invalid_values(bridge, alice, values):
    bridge.refused("LG001", "exit_requested", alice, ALICE, *values)


def test_refuses_a_frozen_group(bridge, alice):
    bridge.freeze(0)
    bridge.refused("LG014", "exit_requested", alice, ALICE, chain_hash(9), 9)
