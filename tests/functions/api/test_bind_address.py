"""ledger.bind_address, and joins and exits with an address: it never changes, and is unique in its group."""

import pytest

from tests.functions.conftest import behind
from tests.support import call, create, join, one

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
BAD = {
    "empty": "",
    "a-digit-short": ADDRESS[:-1],
    "a-digit-long": ADDRESS + "0",
    "no-hex": ADDRESS[:-1] + "g",
    "zero": "0x" + "0" * 40,
    "a-wrong-checksum": ADDRESS[:-1] + "D",
    "a-line": ADDRESS + "\n",
}
bad_addresses = pytest.mark.parametrize("address", BAD.values(), ids=BAD.keys())


def bind(ledger, group, participant, address=ADDRESS):
    return call(ledger, "bind_address", group, participant, address)


def address_of(ledger, group, participant):
    return call(ledger, "get_address", group, participant)[0][0]


def stored(ledger, participant):
    """The address in the table, and whether its transaction is this one."""
    with behind(ledger):
        query = "select address, address_xid = pg_current_xact_id() from ledger.participants where id = %s"
        return one(ledger, query, [participant])


@pytest.mark.parametrize("spelled", [ADDRESS, ADDRESS.lower(), "0x" + ADDRESS[2:].upper()])
def test_binds_an_address_and_answers_with_its_checksum(ledger, group, alice, bob, spelled):
    assert bind(ledger, group, alice, spelled) == [(alice, group, ADDRESS)]
    assert stored(ledger, alice) == (bytes.fromhex(ADDRESS[2:]), True)
    assert (address_of(ledger, group, alice), address_of(ledger, group, bob)) == (ADDRESS, None)


def test_does_not_change_how_a_participant_is_shown(ledger, group, alice):
    bind(ledger, group, alice)
    assert call(ledger, "get_participant", group, alice) == [("alice", alice, group, 100)]


def test_binding_the_same_address_again_changes_nothing(ledger, group, alice):
    bind(ledger, group, alice)
    query = "select ctid::text, * from ledger.participants where id = %s"
    with behind(ledger):
        before = one(ledger, query, [alice])
    assert bind(ledger, group, alice, ADDRESS.lower()) == [(alice, group, ADDRESS)]
    with behind(ledger):
        assert one(ledger, query, [alice]) == before


def test_refuses_another_address_after_the_first(refuses, ledger, group, alice):
    bind(ledger, group, alice)
    refuses("LG010", ["address"], "bind_address", group, alice, OTHER)
    assert address_of(ledger, group, alice) == ADDRESS


def test_refuses_the_address_of_another_present_participant(refuses, ledger, group, alice, bob):
    bind(ledger, group, alice)
    refuses("LG010", ["address"], "bind_address", group, bob, ADDRESS.lower())
    refuses("LG010", ["address"], "join_group", group, "carol", 5, None, None, ADDRESS)
    refuses("LG010", ["address"], "exit_group", group, bob, None, None, ADDRESS)


def test_the_address_of_a_former_participant_is_free_and_stays_recorded(ledger, group, alice, bob):
    bind(ledger, group, alice)
    call(ledger, "exit_group", group, alice)
    bind(ledger, group, bob)
    assert stored(ledger, alice) == stored(ledger, bob) == (bytes.fromhex(ADDRESS[2:]), True)


def test_an_address_is_taken_in_its_own_group_only(ledger, group, alice, neighbour):
    bind(ledger, group, alice)
    other = create(ledger, "DAI")
    bind(ledger, other, join(ledger, other, "alice"))


def test_a_join_binds_an_address(ledger, group, alice):
    carol = call(ledger, "join_group", group, "carol", 5, None, None, ADDRESS.lower())[0][1]
    assert address_of(ledger, group, carol) == ADDRESS
    assert stored(ledger, carol)[1]


def test_an_exit_binds_an_address_to_a_participant_without_one(ledger, group, alice):
    assert call(ledger, "exit_group", group, alice, None, None, ADDRESS.lower())[0][0] == 100
    assert stored(ledger, alice) == (bytes.fromhex(ADDRESS[2:]), True)


def test_an_exit_to_the_bound_address_is_done_and_to_another_refused(refuses, ledger, group, alice):
    bind(ledger, group, alice)
    refuses("LG010", ["address"], "exit_group", group, alice, None, None, OTHER)
    assert call(ledger, "exit_group", group, alice, None, None, ADDRESS)[0][0] == 100


@bad_addresses
def test_refuses_a_bad_address(refuses, group, alice, address):
    refuses("LG001", ["address"], "bind_address", group, alice, address)
    refuses("LG001", ["address"], "join_group", group, "carol", 5, None, None, address)
    refuses("LG001", ["address"], "exit_group", group, alice, None, None, address)


def test_names_every_invalid_value_at_once(refuses):
    refuses("LG001", ["group_id", "participant_id", "address"], "bind_address", None, None, None)
    refuses(
        *("LG001", ["group_id", "username", "amount", "metadata", "address"]),
        *("join_group", None, "", -1, None, "[]", "0x"),
    )
    refuses("LG001", ["group_id", "participant_id", "address"], "exit_group", None, None, None, None, "0x")


def test_refuses_a_participant_who_left(refuses, ledger, group, alice):
    call(ledger, "exit_group", group, alice)
    refuses("LG002", ["participant_id"], "bind_address", group, alice, ADDRESS)


def test_refuses_an_unknown_participant(refuses, group, alice, stranger):
    refuses("LG002", ["participant_id"], "bind_address", group, stranger, ADDRESS)


def test_refuses_a_participant_of_another_group(refuses, group, alice, neighbour):
    refuses("LG002", ["participant_id"], "bind_address", neighbour, alice, ADDRESS)


def test_refuses_an_unknown_group(refuses, alice, stranger):
    refuses("LG002", ["group_id"], "bind_address", stranger, alice, ADDRESS)


@pytest.mark.parametrize(
    ("function", "before"), [("bind_address", []), ("join_group", ["carol", 5]), ("exit_group", [])]
)
def test_a_repeated_request_may_use_another_spelling_of_its_address(refuses, ledger, group, alice, function, before):
    def values(address):
        of = before if function == "join_group" else [alice]
        return [group, *of, address, "key"] if function == "bind_address" else [group, *of, "key", None, address]

    first = call(ledger, function, *values(ADDRESS))
    assert call(ledger, function, *values(ADDRESS.lower())) == first
    refuses("LG006", ["idempotency_key"], function, *values(OTHER))
    if function != "bind_address":
        refuses("LG006", ["idempotency_key"], function, *values(None))
