"""What clients may do in a group with a vault, and what the chain decides there."""

import psycopg
import pytest

from tests.support import call, one, refused
from tests.vaults.conftest import ALICE, BOB, CAROL, chain_hash


@pytest.mark.parametrize(
    ("statement", "field"),
    [
        ("ledger.join_group({group}, 'eve', 5, address => '" + BOB + "')", "amount"),
        ("ledger.join_group({group}, 'eve', 0)", "address"),
        ("ledger.deposit({group}, {alice}, 5)", "group_id"),
        ("ledger.settle_exit({group}, {exit}, '0x5f')", "group_id"),
        ("ledger.checkpoint({group})", "group_id"),
        ("ledger.bind_address({group}, {alice}, '" + ALICE + "')", "address"),
    ],
    ids=["join-with-money", "join-without-address", "deposit", "settle", "checkpoint", "bind"],
)
@pytest.mark.parametrize("login", ["service", "administrator"])
def test_refuses_what_the_chain_decides(bridge, ledger, admin, group, alice, bob, statement, field, login):
    exited = one(ledger, "select entry_id from ledger.exit_group(%s, %s)", [group, bob])[0]
    session = ledger if login == "service" else admin
    diag = refused(session, "LG012", "select " + statement.format(group=group, alice=alice, exit=exited))
    assert diag.column_name == field


def test_transfers_exits_reversals_and_names_are_as_ever(ledger, group, alice, bob, balances):
    moved = one(ledger, "select entry_id from ledger.transfer(%s, %s, %s, 10)", [group, alice, bob])[0]
    ledger.execute("select ledger.reverse_transfer(%s, %s)", [group, moved])
    ledger.execute("select ledger.rename_participant(%s, %s, 'alice')", [group, alice])
    assert call(ledger, "exit_group", group, bob)[0][0] == 50
    assert balances() == {"alice": 100}


def test_an_exit_names_no_other_address(ledger, group, alice):
    refused(ledger, "LG010", "select ledger.exit_group(%s, %s, address => %s)", [group, alice, BOB])
    ledger.execute("select ledger.exit_group(%s, %s, address => %s)", [group, alice, ALICE])


def test_an_exit_without_an_address_is_refused(ledger, admin, group, alice):
    with admin.transaction(force_rollback=True):
        admin.execute("update ledger.participants set address = null where id = %s", [alice])
        refused(admin, "LG012", "select ledger.exit_group(%s, %s)", [group, alice])


def test_a_username_that_is_taken_is_no_taken_address(ledger, claim, group, alice):
    claim("bob", ALICE)
    query = "select ledger.join_group(%s, 'bob', 0, address => %s)"
    assert refused(ledger, "LG005", query, [group, ALICE]).column_name == "username"


def test_a_repeated_join_is_answered(bridge, ledger, group):
    query = "select id, replayed from ledger.join_group(%s, 'bob', 0, 'key', address => %s)"
    first, again = (one(ledger, query, [group, BOB]) for _ in range(2))
    assert again == (first[0], True)


def test_is_removed_only_after_it_was_closed(bridge, ledger, group, alice):
    refused(ledger, "LG004", "select ledger.remove_group(%s)", [group])
    ledger.execute("select ledger.exit_group(%s, %s)", [group, alice])
    refused(ledger, "LG012", "select ledger.remove_group(%s)", [group])
    bridge.refused("LG013", "record_closing", *bridge.mined())
    bridge.close(bridge.publish()["number"])
    bridge.call("record_closing", *bridge.mined())
    ledger.execute("select ledger.remove_group(%s)", [group])


def test_has_no_checkpoint_of_the_schedule(bridge, ledger, group, alice):
    query = "select group_id from ledger.list_newest_checkpoints()"
    assert ledger.execute(query).fetchall() == [(group - 1,)]


def test_other_groups_are_as_they_were(bridge, alice, ledger, group):
    other = group - 1
    dora = one(ledger, "select id from ledger.join_group(%s, 'dora', 5)", [other])[0]
    ledger.execute("select ledger.deposit(%s, %s, 5)", [other, dora])
    ledger.execute("select ledger.bind_address(%s, %s, %s)", [other, dora, ALICE])
    refused(ledger, "LG010", "select ledger.join_group(%s, 'eve', 5, address => %s)", [other, ALICE])
    left = one(ledger, "select entry_id from ledger.exit_group(%s, %s)", [other, dora])[0]
    ledger.execute("select ledger.settle_exit(%s, %s, '0x5f')", [other, left])
    made = one(ledger, "select chain_id, deposits, settled from ledger.checkpoint(%s)", [other])
    assert made == (0, 2, 10)
    ledger.execute("select ledger.remove_group(%s)", [other])


FUNCTIONS = (
    "credit_deposit(1, 0, '{a}', 1, 1, '{h}', 1)",
    "link_vault(1, 1, '{a}')",
    "settle_payout(1, 1, 1, '{a}', 1, '{h}', 1, 1)",
    "record_emergency(1, 0, '{h}', 1)",
    "raise_ids(1, 1)",
)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.partition("(")[0])
def test_the_service_may_report_nothing(ledger, function):
    refused(ledger, "42501", "select ledger." + function.format(a=CAROL, h=chain_hash(1)))


def test_the_administrator_reports_as_the_bridge(admin: psycopg.Connection, bridge, group):
    admin.execute("set role ledger_bridge")
    assert one(admin, "select group_id from ledger.get_vault(%s)", [group]) == (group,)
    refused(admin, "42501", "select * from ledger.vaults")
    refused(admin, "42501", "select ledger.transfer(1, 1, 2, 1)")
