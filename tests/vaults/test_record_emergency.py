"""record_emergency: a group is frozen for good, and what the vault pays is recorded."""

import pytest

from tests.support import call, one, refused
from tests.vaults.conftest import ALICE, BOB, CAROL, chain_hash

KEYS = ("participant_id", "exit_entry", "owner", "amount")


@pytest.fixture
def frozen(bridge, alice, bob, claim, ledger, group) -> dict[str, int]:
    """Alice, Bob, who has left, and Carol with 10 in a checkpoint; then a deposit; then the emergency."""
    carol = claim("carol", CAROL)
    ledger.execute("select ledger.transfer(%s, %s, %s, 10)", [group, alice, carol])
    ledger.execute("select ledger.exit_group(%s, %s)", [group, bob])
    number = bridge.publish()["number"]
    bridge.deposit(ALICE, 7)
    ledger.execute("select ledger.transfer(%s, %s, %s, 1)", [group, alice, carol])
    bridge.freeze(number)
    return {"alice": alice, "bob": bob, "carol": carol, "number": number}


MOVEMENTS = {
    "transfer": "ledger.transfer({group}, {alice}, {carol}, 1)",
    "transfer-with-key": "ledger.transfer({group}, {alice}, {carol}, 1, 'key')",
    "transfer-to-nobody": "ledger.transfer({group}, {alice}, 999, 1)",
    "transfers": 'ledger.transfer_all({group}, \'[{{"from": {alice}, "to": {carol}, "amount": 1}}]\')',
    "reversal": "ledger.reverse_transfer({group}, (select max(id) from ledger.list_entries({group}, 'transfer')))",
    "exit": "ledger.exit_group({group}, {alice})",
    "join": "ledger.join_group({group}, 'dave', 0, address => '" + BOB + "')",
}


@pytest.mark.parametrize("movement", MOVEMENTS.values(), ids=MOVEMENTS.keys())
def test_every_movement_is_refused(ledger, group, frozen, movement):
    diag = refused(ledger, "LG014", "select " + movement.format(group=group, **frozen))
    assert diag.column_name == "group_id"


def test_deposits_and_addresses_by_hand_are_refused_as_before(ledger, group, frozen):
    refused(ledger, "LG012", "select ledger.deposit(%s, %s, 5)", [group, frozen["alice"]])
    refused(ledger, "LG012", "select ledger.bind_address(%s, %s, %s)", [group, frozen["alice"], ALICE])
    refused(ledger, "LG012", "select ledger.checkpoint(%s)", [group])


@pytest.mark.parametrize("lines", [1, 2])
def test_shared_calls_leave_the_refusal_to_a_call_of_its_own(ledger, group, frozen, lines):
    query = "select outcome from ledger.transfer_batch(%s, %s, %s, %s)"
    values = [[group] * lines, [frozen["alice"]] * lines, [frozen["carol"]] * lines, [1] * lines]
    assert ledger.execute(query, values).fetchall() == [("deferred",)] * lines


def test_everything_can_still_be_read(ledger, group, frozen, balances):
    assert balances() == {ALICE: 96, "carol": 11}
    assert call(ledger, "get_participant", group, frozen["alice"])[0][3] == 96
    assert call(ledger, "group_total", group) == [(107,)]
    query = "select outcome, amount from ledger.get_participants(%s, %s)"
    assert ledger.execute(query, [[group], [frozen["carol"]]]).fetchall() == [("done", 11)]
    assert len(call(ledger, "list_participants", group)) == 2
    assert call(ledger, "get_address", group, frozen["carol"]) == [(CAROL,)]
    proof = one(ledger, "select to_json(p) from ledger.get_proof(%s, %s) as p", [group, frozen["alice"]])[0]
    assert (proof["checkpoint"]["number"], proof["leaf"]["amount"]) == (frozen["number"], 90)


def test_other_groups_go_on(ledger, group, frozen):
    eve, frank = (
        one(ledger, "select id from ledger.join_group(%s, %s, 5)", [group - 1, n])[0] for n in ("eve", "frank")
    )
    ledger.execute("select ledger.transfer(%s, %s, %s, 5)", [group - 1, eve, frank])


def test_names_may_change(ledger, group, frozen):
    ledger.execute("select ledger.rename_participant(%s, %s, 'alice')", [group, frozen["alice"]])


def test_again_changes_nothing(bridge, frozen):
    block = 1000 + bridge.transactions
    emergency = [frozen["number"], chain_hash(bridge.transactions), block]
    assert bridge.call("record_emergency", *emergency) == {"replayed": True}
    for place, value in ((0, 0), (1, chain_hash(99)), (2, block + 1)):
        bridge.refused("LG013", "record_emergency", *emergency[:place], value, *emergency[place + 1 :])
    status = bridge.call("get_vault")
    assert (status["emergency"], status["emergency_number"]) == (True, frozen["number"])


def test_refuses_a_checkpoint_that_was_not_accepted(bridge, alice):
    bridge.refused("LG013", "record_emergency", 1, chain_hash(9), 9)
    bridge.call("prepare_publication")
    bridge.refused("LG013", "record_emergency", 1, chain_hash(9), 9)
    bridge.call("record_publication", 1, "vetoed", *bridge.mined())
    bridge.refused("LG013", "record_emergency", 1, chain_hash(9), 9)
    assert bridge.call("record_emergency", 0, chain_hash(9), 9) == {"replayed": False}


def test_every_leaf_is_paid(bridge, frozen):
    leaves = {leaf["participant_id"]: leaf for leaf in bridge.rows("list_leaves", frozen["number"])}
    assert {leaf["amount"] for leaf in leaves.values()} == {90, 50, 10}
    for leaf in leaves.values():
        bridge.pay(leaf)
    assert bridge.call("get_vault")["settled"] == 150
    assert bridge.rows("list_unpaid_exits", frozen["number"]) == []


def test_refuses_payouts_of_other_leaves(bridge, frozen):
    (leaf,) = (
        leaf for leaf in bridge.rows("list_leaves", frozen["number"]) if leaf["participant_id"] == frozen["alice"]
    )
    for member, value in (("amount", 97), ("owner", BOB), ("participant_id", frozen["carol"]), ("exit_entry", 1)):
        changed = leaf | {member: value}
        bridge.refused("LG013", "settle_payout", *(changed[key] for key in KEYS), chain_hash(9), 9999, 0)
    paid = bridge.pay(leaf)
    assert bridge.call("settle_payout", *paid.values())["replayed"] is True
    bridge.refused("LG013", "settle_payout", *(paid | {"transaction": chain_hash(99)}).values())


def test_an_exit_that_the_checkpoint_lacks_is_not_paid(bridge, alice, ledger, group):
    number = bridge.publish()["number"]
    left = one(ledger, "select entry_id from ledger.exit_group(%s, %s)", [group, alice])[0]
    bridge.freeze(number)
    bridge.refused("LG013", "settle_payout", alice, left, ALICE, 100, chain_hash(9), 9999, 0)
    # Her leaf as a participant is.
    bridge.call("settle_payout", alice, None, ALICE, 100, chain_hash(9), 9999, 0)


def test_deposits_that_it_lacks_are_returned(bridge, frozen):
    bridge.refused("LG013", "reclaim_deposit", 1, BOB, 50, chain_hash(9), 9)
    bridge.refused("LG013", "reclaim_deposit", 2, ALICE, 8, chain_hash(9), 9)
    bridge.refused("LG013", "reclaim_deposit", 2, BOB, 7, chain_hash(9), 9)
    answer = bridge.call("reclaim_deposit", 2, ALICE, 7, chain_hash(9), 9)
    assert (answer["kind"], answer["subject"], answer["amount"], answer["replayed"]) == ("reclaim", 2, 7, False)
    assert bridge.call("reclaim_deposit", 2, ALICE, 7, chain_hash(9), 9)["replayed"] is True
    bridge.refused("LG013", "reclaim_deposit", 2, ALICE, 7, chain_hash(10), 9)
    # One that was never credited.
    bridge.refused("LG014", "credit_deposit", 3, CAROL, 5, 162, chain_hash(11), 11)
    bridge.call("reclaim_deposit", 3, CAROL, 5, chain_hash(11), 11)
    assert bridge.call("get_vault")["settled"] == 0


def test_nothing_is_returned_without_an_emergency(bridge, alice):
    bridge.refused("LG013", "reclaim_deposit", 0, ALICE, 100, chain_hash(9), 9)


def test_a_credit_again_is_answered(bridge, frozen):
    for deposit in bridge.deposits:
        assert bridge.call("credit_deposit", *deposit.values())["replayed"] is True


def test_without_any_ripe_checkpoint_only_deposits_are_returned(bridge, alice, bob):
    bridge.freeze(0)
    bridge.refused("LG013", "settle_payout", alice, None, ALICE, 100, chain_hash(9), 9999, 0)
    for index, (owner, amount) in enumerate(((ALICE, 100), (BOB, 50))):
        bridge.call("reclaim_deposit", index, owner, amount, *bridge.mined())


def test_a_window_may_end_after_the_emergency(bridge, frozen):
    bridge.call("record_publication", frozen["number"], "closed", None, None)


def test_a_younger_checkpoint_that_was_accepted_is_vetoed_by_it(bridge, alice, claim, ledger, group):
    carol = claim("carol", CAROL)
    bridge.close(bridge.publish()["number"])
    ledger.execute("select ledger.transfer(%s, %s, %s, 30)", [group, alice, carol])
    accepted = bridge.call("prepare_publication")["number"]
    published = bridge.mined()
    bridge.call("record_publication", accepted, "accepted", *published)
    bridge.freeze(1)
    assert [row["state"] for row in bridge.rows("list_publications")] == ["closed", "vetoed"]
    assert bridge.rows("list_publications")[1]["block"] == 1000 + bridge.transactions
    status = bridge.call("get_vault")
    assert (status["accepted_number"], status["emergency_number"]) == (1, 1)
    # A proof is of what the vault pays, and that is paid.
    proof = one(ledger, "select to_json(p) from ledger.get_proof(%s, %s) as p", [group, alice])[0]
    assert (proof["checkpoint"]["number"], proof["leaf"]["amount"]) == (1, 100)
    for leaf in bridge.rows("list_leaves", 1):
        bridge.pay(leaf)
    # The chain, read again.
    assert bridge.call("record_publication", accepted, "accepted", *published)["replayed"] is True
    assert bridge.call("get_vault")["accepted_number"] == 1


def test_a_checkpoint_that_was_only_prepared_is_abandoned(bridge, alice):
    bridge.close(bridge.publish()["number"])
    bridge.call("prepare_publication")
    bridge.freeze(1)
    assert [row["state"] for row in bridge.rows("list_publications")] == ["closed", "abandoned"]
    bridge.refused("LG014", "prepare_publication")
