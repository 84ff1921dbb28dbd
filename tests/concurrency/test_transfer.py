"""Transfers at the same time: no money is made or lost, and none waits forever."""

import pytest

from tests.support import balance, call, in_background, join, one, transfer, wait_until_blocked


def hold(connection, participant):
    """Lock a participant as a transfer does, until the transaction ends."""
    connection.execute("select from ledger.participants where id = %s for no key update nowait", [participant])


def balances(ledger, group, *participants):
    return [balance(ledger, group, participant) for participant in participants]


@pytest.fixture(params=["the planner's choice", "in the order of the table"])
def scan(request):
    """How the rows are read must not decide in which order they are locked."""

    def scan(connection):
        if request.param == "in the order of the table":
            for plan in ("indexscan", "bitmapscan", "indexonlyscan"):
                connection.execute(f"set enable_{plan} = off")
        connection.commit()

    return scan


@pytest.mark.parametrize("upward", [True, False])
def test_locks_the_lower_id_first(ledger, session, admin, attempt, scan, group, alice, bob, upward):
    # In the table alice now comes after bob.
    call(ledger, "rename_participant", group, alice, "alicia")
    holder, sender = session(role=admin.info.user), session()
    scan(sender)
    hold(holder, alice)
    pair = (alice, bob) if upward else (bob, alice)
    with in_background(lambda: attempt(sender, "transfer", group, *pair, 1)) as outcome:
        try:
            wait_until_blocked(admin, sender)
            hold(admin, bob)
        finally:
            holder.rollback()
    assert outcome == ["done"]


@pytest.mark.parametrize("upward", [True, False])
def test_holds_the_lower_id_while_it_waits_for_the_higher(ledger, session, admin, attempt, group, alice, bob, upward):
    holder, sender = session(role=admin.info.user), session()
    hold(holder, bob)
    pair = (alice, bob) if upward else (bob, alice)
    with in_background(lambda: attempt(sender, "transfer", group, *pair, 1)) as outcome:
        try:
            wait_until_blocked(admin, sender)
            assert (
                admin.execute(
                    "select id from ledger.participants where group_id = %s for no key update skip locked", [group]
                ).fetchall()
                == []
            )
        finally:
            holder.rollback()
    assert outcome == ["done"]


@pytest.mark.parametrize("upward", [True, False])
def test_opposite_transfers_both_move(ledger, session, overlap, level, group, alice, bob, upward):
    there, back = ("transfer", group, alice, bob, 30), ("transfer", group, bob, alice, 50)
    first, second = (there, back) if upward else (back, there)
    assert overlap(session(level), first, session(level), second) == "done"
    assert balances(ledger, group, alice, bob) == [120, 80]


@pytest.mark.parametrize(("commits", "outcome", "left"), [(True, "LG003", 40), (False, "done", 40)])
def test_two_transfers_do_not_overdraw(ledger, session, overlap, level, group, alice, bob, commits, outcome, left):
    sending = "transfer", group, alice, bob, 60
    assert overlap(session(level), sending, session(level), sending, commits=commits) == outcome
    assert balances(ledger, group, alice, bob) == [left, 200 - left]


def test_a_snapshot_from_before_a_transfer_does_not_overdraw(ledger, session, attempt, level, group, alice, bob):
    late = session(level)
    late.execute("select")
    transfer(ledger, group, alice, bob, 60)
    assert attempt(late, "transfer", group, alice, bob, 60) == "LG003"
    assert balances(ledger, group, alice, bob) == [40, 160]


@pytest.mark.parametrize(("leaves", "left"), [("alice", 130), ("bob", 70)])
def test_an_exit_that_waits_for_a_transfer_takes_out_the_remaining_balance(
    ledger, session, overlap, level, group, alice, bob, leaves, left
):
    leaving = {"alice": alice, "bob": bob}[leaves]
    sending, leave = ("transfer", group, alice, bob, 30), ("exit_group", group, leaving)
    assert overlap(session(level), sending, session(level), leave) == "done"
    assert call(ledger, "group_total", group) == [(left,)]


@pytest.mark.parametrize("leaves", ["alice", "bob"])
@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG002"), (False, "done")])
def test_a_transfer_that_waits_for_an_exit_is_refused(
    ledger, session, overlap, level, group, alice, bob, leaves, commits, outcome
):
    leaving = {"alice": alice, "bob": bob}[leaves]
    leave, sending = ("exit_group", group, leaving), ("transfer", group, alice, bob, 30)
    assert overlap(session(level), leave, session(level), sending, commits=commits) == outcome
    assert call(ledger, "group_total", group) == [(100 if commits else 200,)]


@pytest.mark.parametrize("leaves", ["alice", "bob"])
def test_a_snapshot_from_before_an_exit_does_not_transfer(ledger, session, attempt, level, group, alice, bob, leaves):
    late = session(level)
    late.execute("select")
    call(ledger, "exit_group", group, {"alice": alice, "bob": bob}[leaves])
    assert attempt(late, "transfer", group, alice, bob, 30) == "LG002"


def test_a_killed_session_leaves_no_trace(ledger, session, admin, group, alice, bob):
    before = admin.execute("table ledger.entries").fetchall()
    killed = session()
    transfer(killed, group, alice, bob, 100)
    join(killed, group, "carol")
    call(killed, "exit_group", group, bob)
    assert one(admin, "select pg_terminate_backend(%s, 30000)", [killed.info.backend_pid]) == (True,)
    assert admin.execute("table ledger.entries").fetchall() == before
    assert call(ledger, "group_total", group) == [(200,)]
    transfer(ledger, group, alice, bob, 100)
    assert balances(ledger, group, alice, bob) == [0, 200]
