"""ledger.transfer: what moves, and what is refused."""

import psycopg
import pytest

from tests.support import one, refused


@pytest.fixture
def group(ledger: psycopg.Connection) -> int:
    return one(ledger, "select id from ledger.create_group('ETH')")[0]


def join(ledger: psycopg.Connection, group: int, username: str, amount: int) -> int:
    return one(ledger, "select id from ledger.join_group(%s, %s, %s)", [group, username, amount])[0]


def test_moves_the_amount(ledger, group):
    alice, bob = join(ledger, group, "alice", 100), join(ledger, group, "bob", 100)
    row = one(
        ledger,
        "select (to_participant).amount, (from_participant).amount from ledger.transfer(%s, %s, %s, 50)",
        [group, bob, alice],
    )
    assert row == (150, 50)


def test_refuses_to_overdraw(ledger, group):
    alice, bob = join(ledger, group, "alice", 100), join(ledger, group, "bob", 100)
    diag = refused(ledger, "LG003", "select ledger.transfer(%s, %s, %s, 150)", [group, bob, alice])
    assert diag.column_name == "amount"
    assert diag.message_hint
