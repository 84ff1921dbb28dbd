"""credit_deposit: each deposit into the vault once, in its order, to its owner."""

from decimal import Decimal

import pytest

from tests.support import create, one
from tests.vaults.conftest import ALICE, BOB, CAROL, VAULT, Bridge, chain_hash

LARGEST = 2**256 - 1


def test_joins_an_unknown_address(bridge, balances, admin, group):
    credited = bridge.deposit(ALICE, 100)
    assert credited["replayed"] is False
    assert balances() == {ALICE: 100}
    query = "select kind, to_id, amount, metadata->>'vault_deposit' from ledger.record where group_id = %s and id = %s"
    assert one(admin, query, [group, credited["entry_id"]]) == ("join", credited["participant_id"], 100, "0")
    assert bridge.call("get_address", credited["participant_id"]) == {"address": ALICE}


def test_deposits_to_the_present_one(bridge, alice, balances, admin, group):
    credited = bridge.deposit(ALICE, 5)
    assert credited["participant_id"] == alice
    assert balances() == {ALICE: 105}
    query = "select kind, to_amount from ledger.record where group_id = %s and id = %s"
    assert one(admin, query, [group, credited["entry_id"]]) == ("deposit", 105)


def test_joins_an_address_again_that_has_exited(bridge, alice, ledger, balances, group):
    ledger.execute("select ledger.exit_group(%s, %s)", [group, alice])
    assert bridge.deposit(ALICE, 5)["participant_id"] > alice
    assert balances() == {ALICE: 5}


def test_an_address_that_is_only_claimed_receives_nothing(bridge, claim, balances):
    mallory = claim("mallory", ALICE)
    credited = bridge.deposit(ALICE, 100)
    assert credited["participant_id"] != mallory
    assert balances() == {"mallory": 0, ALICE: 100}
    # Nor does it keep others from claiming it.
    claim("another", ALICE)
    assert bridge.deposit(ALICE, 1)["participant_id"] == credited["participant_id"]


def test_an_address_that_was_proved_receives_it(bridge, claim, balances):
    alice = claim("alice", ALICE)
    bridge.call("bind_proved_address", alice, ALICE)
    assert bridge.deposit(ALICE, 100)["participant_id"] == alice
    assert balances() == {"alice": 100}


def test_never_fails_for_a_name(bridge, claim, balances):
    taken = claim(ALICE, BOB)
    # The next two ids, each in a name of somebody else.
    claim(f"{ALICE} {taken + 3}", CAROL)
    claim(f"{ALICE} {taken + 4}", CAROL)
    credited = bridge.deposit(ALICE, 1)["participant_id"]
    assert balances() == {ALICE: 0, f"{ALICE} {taken + 3}": 0, f"{ALICE} {taken + 4}": 0, f"{ALICE} {credited}": 1}
    assert credited > taken + 4


def test_again_changes_nothing(bridge, alice, bob, balances):
    before = bridge.call("get_vault")
    for deposit in bridge.deposits:
        assert bridge.call("credit_deposit", *deposit.values())["replayed"] is True
    assert bridge.call("get_vault") == before
    assert balances() == {ALICE: 100, BOB: 50}


@pytest.mark.parametrize(
    ("member", "value"),
    [("owner", BOB), ("amount", 99), ("cumulative", 101), ("transaction", chain_hash(99)), ("block", 7)],
)
def test_refuses_other_values_of_a_known_one(bridge, alice, member, value):
    bridge.refused("LG013", "credit_deposit", *(bridge.deposits[0] | {member: value}).values())


def test_refuses_gaps_and_sums_that_do_not_fit(bridge, alice, balances):
    for index, amount, cumulative in ((2, 5, 105), (1, 5, 104), (1, 5, 106), (1, 5, 5), (1, 4, 105)):
        bridge.refused("LG013", "credit_deposit", index, BOB, amount, cumulative, chain_hash(9), 9)
    assert balances() == {ALICE: 100}
    assert bridge.call("get_vault")["deposits"] == 1


def test_amounts_up_to_the_largest(bridge, balances):
    bridge.deposit(ALICE, LARGEST)
    assert balances() == {ALICE: LARGEST}
    bridge.refused("LG001", "credit_deposit", 1, ALICE, 1, LARGEST + 1, chain_hash(9), 9)


def test_refuses_invalid_values(bridge):
    good = {"index": 0, "address": ALICE, "amount": 1, "cumulative": 1, "transaction": chain_hash(1), "block": 1}
    for member, values in {
        "index": (None, -1),
        "address": (None, "0x1", "0x" + "00" * 20, ALICE.replace("a", "A")),
        "amount": (None, 0, -1, Decimal("1.5"), LARGEST + 1),
        "cumulative": (None, 0, Decimal("1.5"), LARGEST + 1),
        "transaction": (None, "", "0x1", chain_hash(1)[2:]),
        "block": (None, -1),
    }.items():
        for value in values:
            bridge.refused("LG001", "credit_deposit", *(good | {member: value}).values())


def test_refuses_deposits_after_the_closing(bridge):
    bridge.call("record_closing", *bridge.mined())
    bridge.refused("LG013", "credit_deposit", 0, ALICE, 1, 1, chain_hash(1), 1)


def test_groups_have_deposits_of_their_own(bridge, alice, session, ledger):
    other = Bridge(session, create(ledger, "BTC"))
    other.refused("LG013", "credit_deposit", 0, ALICE, 1, 1, chain_hash(1), 1)
    other.call("link_vault", 1, VAULT)
    assert other.deposit(ALICE, 7)["participant_id"] != alice
    assert bridge.call("get_vault")["cumulative"] == 100
    assert other.call("get_vault")["cumulative"] == 7
