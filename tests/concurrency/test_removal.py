"""Removal against joins and exits: a removed group never has a participant inside."""

import pytest

from tests.support import call, in_background, join, one, refused, transfer, wait_until_blocked


def state(admin, group):
    """Whether the group exists, and how many are present."""
    return one(
        admin,
        "select closed_at is null, (select count(*) from ledger.current_participants as p where p.group_id = g.id) "
        "from ledger.groups as g where id = %s",
        [group],
    )


@pytest.mark.parametrize(
    ("commits", "outcome", "left"), [(True, "LG004", (True, 1)), (False, "done", (False, 0))], ids=["kept", "undone"]
)
def test_a_removal_waits_for_a_join(session, overlap, admin, level, group, commits, outcome, left):
    joining, removing = ("join_group", group, "carol", 0), ("remove_group", group)
    assert overlap(session(level), joining, session(level), removing, commits=commits) == outcome
    assert state(admin, group) == left


@pytest.mark.parametrize(
    ("commits", "outcome", "left"), [(True, "LG002", (False, 0)), (False, "done", (True, 1))], ids=["kept", "undone"]
)
def test_a_join_waits_for_a_removal(session, overlap, admin, level, group, commits, outcome, left):
    removing, joining = ("remove_group", group), ("join_group", group, "carol", 0)
    assert overlap(session(level), removing, session(level), joining, commits=commits) == outcome
    assert state(admin, group) == left


def test_a_removal_with_a_snapshot_from_before_a_join_is_refused(ledger, session, attempt, admin, level, group):
    late = session(level)
    late.execute("select")
    join(ledger, group, "carol", 0)
    assert attempt(late, "remove_group", group) == "LG004"
    assert state(admin, group) == (True, 1)


def test_a_removal_whose_transaction_read_before_a_join_is_refused(ledger, session, attempt, admin, level, group):
    late = session(level)
    assert call(late, "list_participants", group) == []
    join(ledger, group, "carol", 0)
    assert attempt(late, "remove_group", group) == "LG004"
    assert state(admin, group) == (True, 1)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_join_with_a_snapshot_from_before_a_removal_is_refused(
    ledger, session, attempt, admin, level, group, renamed
):
    late = session(level)
    assert call(late, "get_group", group) == [("ETH", group)]
    if renamed:
        call(ledger, "rename_group", group, "ETC")
    call(ledger, "remove_group", group)
    assert attempt(late, "join_group", group, "carol", 0) == "LG002"
    assert state(admin, group) == (False, 0)


def test_a_join_that_waits_for_a_removal_after_a_rename_is_refused(session, overlap, admin, level, group):
    removing = session(level)
    call(removing, "rename_group", group, "ETC")
    joining = "join_group", group, "carol", 0
    assert overlap(removing, ("remove_group", group), session(level), joining) == "LG002"
    assert state(admin, group) == (False, 0)


@pytest.mark.parametrize(
    ("commits", "outcome", "left"), [(True, "done", (False, 0)), (False, "LG004", (True, 1))], ids=["kept", "undone"]
)
def test_a_removal_waits_for_an_exit(session, overlap, admin, level, group, alice, commits, outcome, left):
    leave, removing = ("exit_group", group, alice), ("remove_group", group)
    assert overlap(session(level), leave, session(level), removing, commits=commits) == outcome
    assert state(admin, group) == left


def test_a_removal_with_a_snapshot_from_before_an_exit_removes(ledger, session, attempt, admin, level, group, alice):
    late = session(level)
    assert call(late, "list_participants", group) == [("alice", alice, group, 100)]
    call(ledger, "exit_group", group, alice)
    assert attempt(late, "remove_group", group) == "done"
    assert state(admin, group) == (False, 0)


def test_an_exit_does_not_wait_for_a_refused_removal(session, attempt, admin, level, group, alice):
    removing = session(level)
    with removing.transaction():
        refused(removing, "LG004", "select ledger.remove_group(%s)", [group])
        assert attempt(session(level), "exit_group", group, alice) == "done"
    assert state(admin, group) == (True, 0)


def test_the_second_of_two_removals_is_refused(session, overlap, admin, level, group):
    removing = "remove_group", group
    assert overlap(session(level), removing, session(level), removing) == "LG002"
    assert state(admin, group) == (False, 0)


def test_a_removal_is_refused_while_a_transfer_is_open(session, attempt, admin, level, group, alice, bob):
    call(session(level), "transfer", group, alice, bob, 100)
    assert attempt(session(level), "remove_group", group) == "LG004"
    assert state(admin, group) == (True, 2)


@pytest.mark.parametrize("function", ["deposit", "exit_group"])
def test_a_removal_does_not_deadlock_with_a_transaction_that_goes_on(
    session, attempt, admin, ledger, group, alice, bob, function
):
    carol = join(ledger, group, "carol")
    moving, removing = session(), session()
    call(moving, function, group, carol, *([5] if function == "deposit" else []))
    with in_background(lambda: attempt(removing, "remove_group", group)) as outcome:
        wait_until_blocked(admin, removing)
        # The second of two writes to a row checks its group again.
        transfer(moving, group, alice, bob, 1)
        transfer(moving, group, alice, bob, 1)
        moving.commit()
    assert outcome == ["LG004"]
