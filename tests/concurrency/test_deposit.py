"""Deposits beside transfers, exits, removals and each other: each is added once, to a present participant."""

import pytest

from tests.support import balance, call, in_background, one, wait_until_blocked

BOTH = pytest.mark.parametrize("commits", [True, False], ids=["kept", "undone"])
KINDS = "select kind, amount from ledger.record where group_id = %s and kind <> 'join' order by created_at, id"


@BOTH
def test_two_deposits_are_both_added(ledger, session, overlap, level, group, alice, commits):
    first, second = ("deposit", group, alice, 5), ("deposit", group, alice, 7)
    assert overlap(session(level), first, session(level), second, commits=commits) == "done"
    assert balance(ledger, group, alice) == call(ledger, "group_total", group)[0][0] == (112 if commits else 107)


@BOTH
@pytest.mark.parametrize("first", ["deposit", "transfer"])
def test_a_deposit_and_a_transfer_are_both_made(ledger, session, overlap, level, group, alice, bob, first, commits):
    calls = {"deposit": ("deposit", group, alice, 5), "transfer": ("transfer", group, alice, bob, 100)}
    earlier = calls.pop(first)
    (later,) = calls.values()
    assert overlap(session(level), earlier, session(level), later, commits=commits) == "done"
    deposited, sent = (1, 1) if commits else (first != "deposit", first != "transfer")
    assert balance(ledger, group, alice) == 100 + 5 * deposited - 100 * sent
    assert call(ledger, "group_total", group) == [(200 + 5 * deposited,)]


def test_a_transfer_may_spend_the_deposit_that_it_waited_for(ledger, session, overlap, level, group, alice, bob):
    deposit, transfer = ("deposit", group, alice, 5), ("transfer", group, alice, bob, 105)
    assert overlap(session(level), deposit, session(level), transfer) == "done"
    assert balance(ledger, group, bob) == 205


@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG002"), (False, "done")], ids=["kept", "undone"])
def test_a_deposit_waits_for_an_exit(ledger, session, overlap, level, group, alice, bob, commits, outcome):
    leave, deposit = ("exit_group", group, alice), ("deposit", group, alice, 5)
    assert overlap(session(level), leave, session(level), deposit, commits=commits) == outcome
    assert call(ledger, "group_total", group) == [(100 if commits else 205,)]


@BOTH
def test_an_exit_waits_for_a_deposit_and_takes_it_out(session, overlap, admin, level, group, alice, bob, commits):
    deposit, leave = ("deposit", group, alice, 5), ("exit_group", group, alice)
    assert overlap(session(level), deposit, session(level), leave, commits=commits) == "done"
    written = [("deposit", 5), ("exit", 105)] if commits else [("exit", 100)]
    assert admin.execute(KINDS, [group]).fetchall() == written


def test_a_snapshot_from_before_an_exit_does_not_deposit(ledger, session, attempt, level, group, alice):
    late = session(level)
    call(late, "get_participant", group, alice)
    call(ledger, "exit_group", group, alice)
    assert attempt(late, "deposit", group, alice, 5) == "LG002"


def test_a_snapshot_from_before_a_deposit_adds_to_it(ledger, session, attempt, level, group, alice):
    late = session(level)
    call(late, "get_participant", group, alice)
    call(ledger, "deposit", group, alice, 5)
    assert attempt(late, "deposit", group, alice, 7) == "done"
    assert balance(ledger, group, alice) == 112


def test_a_removal_is_refused_beside_a_deposit(session, attempt, ledger, level, group, alice):
    depositing = session(level)
    call(depositing, "deposit", group, alice, 5)
    removing = session(level)
    # It waits for the deposit's shard, and refuses.
    with in_background(lambda: attempt(removing, "remove_group", group)) as outcome:
        wait_until_blocked(ledger, removing)
        depositing.commit()
    assert outcome == ["LG004"]


def test_a_deposit_waits_for_an_exit_and_a_removal(session, attempt, ledger, admin, group, alice):
    leaving = session()
    call(leaving, "exit_group", group, alice)
    call(leaving, "remove_group", group)
    depositing = session()
    with in_background(lambda: attempt(depositing, "deposit", group, alice, 5)) as outcome:
        wait_until_blocked(admin, depositing)
        leaving.commit()
    assert outcome == ["LG002"]
    assert admin.execute(KINDS, [group]).fetchall() == [("exit", 100)]


@BOTH
def test_a_repeated_request_deposits_once(session, overlap, ledger, admin, level, group, alice, commits):
    deposit = "deposit", group, alice, 5, "key"
    assert overlap(session(level), deposit, session(level), deposit, commits=commits) == "done"
    assert balance(ledger, group, alice) == 105
    assert admin.execute(KINDS, [group]).fetchall() == [("deposit", 5)]


def test_a_deposit_that_waited_is_later(session, attempt, admin, level, group, alice, bob):
    sending, depositing = session(level), session(level)
    call(sending, "transfer", group, alice, bob, 1)
    with in_background(lambda: attempt(depositing, "deposit", group, alice, 5)) as outcome:
        wait_until_blocked(admin, depositing)
        (waiting_at,) = one(admin, "select clock_timestamp()")
        sending.commit()
    assert outcome == ["done"]
    query = "select kind, created_at > %s from ledger.record where group_id = %s order by created_at, id offset 2"
    assert admin.execute(query, [waiting_at, group]).fetchall() == [("transfer", False), ("deposit", True)]


def test_deposits_of_different_sessions_take_different_shards(database, session, group, alice, bob):
    first = session()
    call(first, "deposit", group, alice, 5)
    while True:
        second = session()
        if (second.info.backend_pid - first.info.backend_pid) % 8:
            break
    second.execute("set lock_timeout = '1s'")
    call(second, "deposit", group, bob, 5)
