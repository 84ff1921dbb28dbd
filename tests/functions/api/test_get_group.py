"""ledger.get_group: one group."""

from tests.support import call


def test_shows_that_group(ledger, group, neighbour):
    assert call(ledger, "get_group", group) == [("ETH", group)]
    assert call(ledger, "get_group", neighbour) == [("Neighbour", neighbour)]


def test_refuses_an_unknown_group(refuses, group, stranger):
    refuses("LG002", ["group_id"], "get_group", stranger)


def test_refuses_null(refuses, group):
    refuses("LG001", ["group_id"], "get_group", None)
