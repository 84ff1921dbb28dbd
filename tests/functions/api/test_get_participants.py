"""ledger.get_participants: several participants in one call."""

from tests.functions.conftest import STRANGERS
from tests.support import call, create, join

CALL = "select * from ledger.get_participants(%s, %s)"


def test_shows_each_line_in_order(ledger, group, alice, bob):
    other = create(ledger, "another")
    zoe = join(ledger, other, "zoe", 2**256 - 1)
    assert ledger.execute(CALL, [[group, other, group], [bob, zoe, alice]]).fetchall() == [
        (1, "done", "bob", bob, group, 100),
        (2, "done", "zoe", zoe, other, 2**256 - 1),
        (3, "done", "alice", alice, group, 100),
    ]


def test_shows_a_participant_once_for_each_request(ledger, group, alice):
    rows = ledger.execute(CALL, [[group, group], [alice, alice]]).fetchall()
    assert [row[:3] for row in rows] == [(1, "done", "alice"), (2, "done", "alice")]


def test_leaves_out_participants_who_are_not_present(ledger, group, alice, bob, neighbour):
    call(ledger, "exit_group", group, alice)
    groups = [group, neighbour, None, group, *STRANGERS, *[group] * len(STRANGERS), group]
    participants = [alice, bob, bob, None, *[bob] * len(STRANGERS), *STRANGERS, bob]
    rows = ledger.execute(CALL, [groups, participants]).fetchall()
    left = len(groups) - 1
    assert rows[:-1] == [(place, "deferred", None, None, None, None) for place in range(1, left + 1)]
    assert rows[-1] == (left + 1, "done", "bob", bob, group, 100)


def test_answers_as_get_participant_does(ledger, group, bob):
    (row,) = ledger.execute(CALL, [[group], [bob]]).fetchall()
    assert [row[2:]] == call(ledger, "get_participant", group, bob)


def test_returns_no_row_for_no_id(ledger):
    assert ledger.execute(CALL, [[], []]).fetchall() == []
    assert ledger.execute(CALL, [None, None]).fetchall() == []
