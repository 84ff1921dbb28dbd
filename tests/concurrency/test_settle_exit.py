"""Two settlements of one exit at once: one reference is recorded."""

import psycopg
import pytest

from tests.support import call, in_background, one, wait_until_blocked

SETTLE = "select to_json(s) from ledger.settle_exit(%s, %s, %s) as s"


@pytest.fixture
def entry(ledger, group, alice, bob):
    """The exit of bob."""
    return call(ledger, "exit_group", group, bob)[0][1]


def reference(ledger, group, entry):
    return one(ledger, "select reference from ledger.get_entry(%s, %s)", [group, entry])[0]


def test_the_same_reference_waits_for_the_first_and_is_a_replay(ledger, session, admin, group, entry):
    first, again = session(), session()
    (answer,) = one(first, SETTLE, [group, entry, "0xa"])
    with in_background(lambda: one(again, SETTLE, [group, entry, "0xa"])) as outcome:
        try:
            wait_until_blocked(admin, again)
        finally:
            first.commit()
    assert answer["replayed"] is False
    assert outcome == [(answer | {"replayed": True},)]
    again.commit()
    assert reference(ledger, group, entry) == "0xa"


@pytest.mark.parametrize("commits", [True, False])
def test_the_same_reference_twice_at_once_is_recorded_once(
    ledger, session, admin, overlap, level, group, entry, commits
):
    settling = "settle_exit", group, entry, "0xa"
    assert overlap(session(level), settling, session(level), settling, commits=commits) == "done"
    query = "select reference from ledger.settlements where group_id = %s and settled_at is not null"
    assert admin.execute(query, [group]).fetchall() == [("0xa",)]
    assert reference(ledger, group, entry) == "0xa"


@pytest.mark.parametrize(("commits", "outcome", "recorded"), [(True, "LG008", "0xa"), (False, "done", "0xb")])
def test_of_two_references_at_once_the_first_is_recorded(
    ledger, session, overlap, level, group, entry, commits, outcome, recorded
):
    first, second = (("settle_exit", group, entry, each) for each in ("0xa", "0xb"))
    assert overlap(session(level), first, session(level), second, commits=commits) == outcome
    assert reference(ledger, group, entry) == recorded


@pytest.mark.parametrize(("second", "outcome"), [("0xa", "done"), ("0xb", "LG008")])
def test_a_snapshot_from_before_does_not_settle_again(
    ledger, session, attempt, level, group, alice, entry, second, outcome
):
    late = session(level)
    assert call(late, "get_participant", group, alice) == [("alice", alice, group, 100)]
    call(ledger, "settle_exit", group, entry, "0xa")
    before = call(ledger, "get_entry", group, entry)
    assert attempt(late, "settle_exit", group, entry, second) == outcome
    assert call(ledger, "get_entry", group, entry) == before


def test_two_exits_of_a_group_are_settled_without_waiting(ledger, session, level, group, alice, entry):
    other = call(ledger, "exit_group", group, alice)[0][1]
    first, second = session(level), session(level)
    call(first, "settle_exit", group, entry, "0xa")
    second.execute("set local lock_timeout = '1s'")
    call(second, "settle_exit", group, other, "0xb")
    for connection in (first, second):
        connection.commit()
    assert [reference(ledger, group, each) for each in (entry, other)] == ["0xa", "0xb"]


def test_a_settlement_delays_no_transfer_join_or_exit(ledger, session, group, alice, entry):
    settler = session()
    call(settler, "settle_exit", group, entry, "0xa")
    ledger.execute("set lock_timeout = '1s'")
    ((_, carol, *_),) = call(ledger, "join_group", group, "carol", 5)
    call(ledger, "transfer", group, alice, carol, 100)
    call(ledger, "exit_group", group, alice)
    settler.commit()
    assert reference(ledger, group, entry) == "0xa"


def test_an_exit_that_is_not_committed_cannot_be_settled(session, group, alice, bob):
    leaver, settler = session(), session()
    entry = call(leaver, "exit_group", group, bob)[0][1]
    with pytest.raises(psycopg.DatabaseError) as raised:
        call(settler, "settle_exit", group, entry, "0xa")
    assert raised.value.sqlstate == "LG002"
    leaver.rollback()
