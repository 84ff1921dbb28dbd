"""settle_payout: an exit is settled by what the vault has paid, once and with all its values."""

import pytest

from tests.support import one
from tests.vaults.conftest import ALICE, BOB, CAROL, chain_hash


@pytest.fixture
def leaf(bridge, alice, bob, ledger, group) -> dict:
    """Bob's exit in an accepted checkpoint."""
    ledger.execute("select ledger.exit_group(%s, %s)", [group, bob])
    (found,) = bridge.rows("list_unpaid_exits", bridge.publish()["number"])
    return found


def values(paid: dict) -> list:
    return [paid[key] for key in ("participant_id", "exit_entry", "owner", "amount", "transaction", "block", "log")]


def test_settles_the_exit(bridge, leaf, admin, group):
    paid = bridge.pay(leaf)
    query = "select reference from ledger.record where group_id = %s and id = %s"
    assert one(admin, query, [group, leaf["exit_entry"]]) == (paid["transaction"],)
    assert bridge.call("get_vault")["settled"] == 50
    assert bridge.rows("list_unpaid_exits", 1) == []


def test_again_changes_nothing(bridge, leaf):
    paid = bridge.pay(leaf)
    answer = bridge.call("settle_payout", *values(paid))
    assert answer["replayed"] is True
    assert (answer["kind"], answer["subject"], answer["exit_entry"]) == ("exit", leaf["exit_entry"], leaf["exit_entry"])
    assert bridge.call("get_vault")["settled"] == 50


OTHERS = {
    "participant_id": 1,
    "owner": ALICE,
    "amount": 51,
    "transaction": chain_hash(99),
    "block": 99,
    "log": 99,
}


@pytest.mark.parametrize("member", OTHERS)
def test_refuses_other_values_afterwards(bridge, leaf, member):
    paid = bridge.pay(leaf)
    bridge.refused("LG013", "settle_payout", *values(paid | {member: OTHERS[member]}))


@pytest.mark.parametrize("member", ["participant_id", "owner", "amount", "exit_entry"])
def test_refuses_what_is_not_the_exit(bridge, leaf, member, alice):
    paid = leaf | {"transaction": chain_hash(9), "block": 9, "log": 0}
    others = OTHERS | {"participant_id": alice, "exit_entry": leaf["exit_entry"] - 1}
    bridge.refused("LG013", "settle_payout", *values(paid | {member: others[member]}))
    assert bridge.call("get_vault")["settled"] == 0


def test_refuses_a_present_participant(bridge, alice):
    bridge.publish()
    bridge.refused("LG013", "settle_payout", alice, None, ALICE, 100, chain_hash(9), 9, 0)


def test_refuses_one_log_for_two_payouts(bridge, leaf, alice, ledger, group):
    paid = bridge.pay(leaf)
    left = one(ledger, "select entry_id from ledger.exit_group(%s, %s)", [group, alice])[0]
    twice = paid | {"participant_id": alice, "exit_entry": left, "owner": ALICE, "amount": 100}
    bridge.refused("LG013", "settle_payout", *values(twice))
    bridge.call("settle_payout", *values(twice | {"log": 1}))


@pytest.fixture
def nothing(bridge, claim, ledger, group) -> dict:
    """An exit of 0."""
    carol = claim("carol", CAROL)
    ledger.execute("select ledger.exit_group(%s, %s)", [group, carol])
    (found,) = bridge.rows("list_unpaid_exits", bridge.publish()["number"])
    return found


def test_an_exit_of_nothing_is_settled_without_a_payment(bridge, nothing, admin, group):
    without = nothing | dict.fromkeys(("transaction", "block", "log"))
    assert bridge.call("settle_payout", *values(without))["replayed"] is False
    assert bridge.call("settle_payout", *values(without))["replayed"] is True
    query = "select reference is not null from ledger.record where group_id = %s and id = %s"
    assert one(admin, query, [group, nothing["exit_entry"]]) == (True,)
    # Anybody may have the vault pay it all the same.
    later = nothing | {"transaction": chain_hash(9), "block": 9, "log": 0}
    assert bridge.call("settle_payout", *values(later))["replayed"] is True


def test_an_exit_of_something_is_not(bridge, leaf):
    bridge.refused("LG001", "settle_payout", *values(leaf | dict.fromkeys(("transaction", "block", "log"))))


def test_refuses_invalid_values(bridge, leaf):
    good = leaf | {"transaction": chain_hash(9), "block": 9, "log": 0}
    for member, wrong in (
        *(("participant_id", None), ("owner", None), ("owner", "0x1"), ("amount", None), ("amount", -1)),
        *(("amount", 2**256), ("transaction", "0x1"), ("block", -1), ("log", -1), ("log", None)),
    ):
        bridge.refused("LG001", "settle_payout", *values(good | {member: wrong}))


def test_a_leaf_that_was_paid_is_not_in_the_next_checkpoint(bridge, leaf, alice):
    bridge.close(1)
    made = bridge.publish()
    assert (made["credited"], made["settled"], made["total"]) == (150, 50, 100)
    assert [row["participant_id"] for row in bridge.rows("list_leaves", made["number"])] == [alice]
    assert BOB not in {row["owner"] for row in bridge.rows("list_unpaid_exits", made["number"])}
