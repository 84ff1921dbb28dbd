"""Two exits of one participant: one final amount."""

import pytest

from tests.support import call


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG002"), (False, "done")])
def test_one_participant_exits_once(ledger, session, overlap, level, group, alice, bob, commits, outcome):
    leave = "exit_group", group, alice
    assert overlap(session(level), leave, session(level), leave, commits=commits) == outcome
    assert call(ledger, "group_total", group) == [(100,)]


def test_a_snapshot_from_before_an_exit_does_not_exit_again(ledger, session, attempt, level, group, alice, bob):
    late = session(level)
    assert call(late, "get_participant", group, alice) == [("alice", alice, group, 100)]
    call(ledger, "exit_group", group, alice)
    assert attempt(late, "exit_group", group, alice) == "LG002"
    assert call(ledger, "group_total", group) == [(100,)]
