"""ledger.health: that the database answers."""

from tests.support import call


def test_answers_ok(ledger):
    assert call(ledger, "health") == [("ok",)]
