"""ledger.group_total: the sum of the present participants' balances."""

from decimal import Decimal

import pytest

from tests.support import call, join, one, transfer


def total(ledger, group):
    ((amount,),) = call(ledger, "group_total", group)
    return amount


def test_adds_up_its_own_group(ledger, group, alice, bob, neighbour):
    assert total(ledger, group) == 200
    assert total(ledger, neighbour) == 2000


def test_an_empty_group_has_nothing(ledger, group):
    assert total(ledger, group) == 0


def test_a_transfer_does_not_change_it(ledger, group, alice, bob):
    transfer(ledger, group, alice, bob, 70)
    assert total(ledger, group) == 200


def test_an_exit_subtracts_the_final_amount(ledger, group, alice, bob):
    transfer(ledger, group, alice, bob, 70)
    call(ledger, "exit_group", group, alice)
    assert total(ledger, group) == 170
    call(ledger, "exit_group", group, bob)
    assert total(ledger, group) == 0


def test_has_no_bound(ledger, group):
    for i in range(3):
        join(ledger, group, f"whale {i}", 2**256 - 1)
    assert total(ledger, group) == 3 * (2**256 - 1)


@pytest.mark.parametrize("spelling", ["100", "100.0", "100.00000", "1e2"])
def test_is_a_plain_integer_however_a_deposit_was_spelled(ledger, group, spelling):
    call(ledger, "join_group", group, "carol", Decimal(spelling))
    assert one(ledger, "select ledger.group_total(%s)::text", [group]) == ("100",)


def test_refuses_an_unknown_group(refuses, group, stranger):
    refuses("LG002", ["group_id"], "group_total", stranger)


def test_refuses_null(refuses, group):
    refuses("LG001", ["group_id"], "group_total", None)
