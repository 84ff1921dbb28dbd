"""bind_proved_address: the address that a participant claimed becomes theirs."""

from tests.support import one
from tests.vaults.conftest import ALICE, BOB


def test_marks_the_address(bridge, claim, admin, group):
    alice = claim("alice", ALICE)
    query = "select address_proved from ledger.participants where id = %s"
    assert one(admin, query, [alice]) == (False,)
    bound = bridge.call("bind_proved_address", alice, ALICE.lower())
    assert bound == {"id": alice, "group_id": group, "address": ALICE, "replayed": False}
    assert one(admin, query, [alice]) == (True,)
    assert bridge.call("bind_proved_address", alice, ALICE)["replayed"] is True


def test_one_of_those_present_may_prove_it(bridge, claim):
    first, second = claim("first", ALICE), claim("second", ALICE)
    bridge.call("bind_proved_address", first, ALICE)
    bridge.refused("LG010", "bind_proved_address", second, ALICE)


def test_an_address_that_was_credited_is_taken(bridge, claim, alice):
    bridge.refused("LG010", "bind_proved_address", claim("mallory", ALICE), ALICE)


def test_after_an_exit_it_is_free(bridge, claim, alice, ledger, group):
    ledger.execute("select ledger.exit_group(%s, %s)", [group, alice])
    bridge.call("bind_proved_address", claim("again", ALICE), ALICE)


def test_another_address_than_the_claimed_one_is_refused(bridge, claim):
    bridge.refused("LG010", "bind_proved_address", claim("alice", ALICE), BOB)


def test_refuses_participants_who_are_not_there(bridge, alice, ledger, group):
    ledger.execute("select ledger.exit_group(%s, %s)", [group, alice])
    for participant in (alice, 999):
        bridge.refused("LG002", "bind_proved_address", participant, ALICE)


def test_refuses_a_frozen_group(bridge, claim):
    alice = claim("alice", ALICE)
    bridge.freeze(0)
    bridge.refused("LG014", "bind_proved_address", alice, ALICE)
