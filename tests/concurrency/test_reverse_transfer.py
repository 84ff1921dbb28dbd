"""Reversals at the same time as others: of two reversals of one entry exactly one is made."""

import psycopg
import pytest

from tests.support import balance, call, in_background, join, one, transfer, wait_until_blocked


@pytest.fixture
def entry(ledger, group, alice, bob):
    """A transfer of 30 from alice to bob, who then hold 70 and 130."""
    return transfer(ledger, group, alice, bob, 30)


@pytest.fixture(params=[100, 0])
def spent(request, ledger, group, bob, entry):
    """The amount that bob has spent since; 30 or more remain."""
    carol = join(ledger, group, "carol")
    if request.param:
        transfer(ledger, group, bob, carol, request.param)
    return request.param


def balances(ledger, group, *participants):
    return [balance(ledger, group, participant) for participant in participants]


def reversals(admin, entry):
    return one(admin, "select count(*) from ledger.entries where reverses = %s", [entry])[0]


def test_two_reversals_at_once_make_one(ledger, session, admin, overlap, level, group, alice, bob, entry, spent):
    # Also where it takes the recipient's whole balance: the second is refused because the entry is reversed.
    reversal = "reverse_transfer", group, entry
    assert overlap(session(level), reversal, session(level), reversal) == "LG007"
    assert reversals(admin, entry) == 1
    assert balances(ledger, group, alice, bob) == [100, 100 - spent]


def test_the_second_is_made_where_the_first_was_rolled_back(
    ledger, session, admin, overlap, level, group, alice, bob, entry, spent
):
    reversal = "reverse_transfer", group, entry
    assert overlap(session(level), reversal, session(level), reversal, commits=False) == "done"
    assert reversals(admin, entry) == 1
    assert balances(ledger, group, alice, bob) == [100, 100 - spent]


def test_two_idempotency_keys_at_once_make_one_reversal(session, admin, overlap, level, group, entry):
    first, second = (("reverse_transfer", group, entry, key) for key in ("one", "another"))
    assert overlap(session(level), first, session(level), second) == "LG007"
    assert reversals(admin, entry) == 1


def test_a_repeated_request_waits_for_the_first_and_gets_its_answer(session, admin, group, entry):
    query = "select to_json(r) from ledger.reverse_transfer(%s, %s, 'key') as r"
    first, again = session(), session()
    (answer,) = one(first, query, [group, entry])
    with in_background(lambda: one(again, query, [group, entry])) as outcome:
        try:
            wait_until_blocked(admin, again)
        finally:
            first.commit()
    assert outcome == [(answer | {"replayed": True},)]
    assert reversals(admin, entry) == 1


def test_a_snapshot_from_before_does_not_reverse_again(
    ledger, session, admin, attempt, level, group, alice, bob, entry
):
    late = session(level)
    assert call(late, "get_participant", group, alice) == [("alice", alice, group, 70)]
    call(ledger, "reverse_transfer", group, entry)
    assert attempt(late, "reverse_transfer", group, entry) == "LG007"
    assert reversals(admin, entry) == 1
    assert balances(ledger, group, alice, bob) == [100, 100]


@pytest.mark.parametrize("leaves", ["alice", "bob"])
@pytest.mark.parametrize(("commits", "outcome"), [(True, "LG002"), (False, "done")])
def test_a_reversal_that_waits_for_an_exit_is_refused(
    ledger, session, admin, overlap, level, group, alice, bob, entry, leaves, commits, outcome
):
    leave = "exit_group", group, {"alice": alice, "bob": bob}[leaves]
    reversal = "reverse_transfer", group, entry
    assert overlap(session(level), leave, session(level), reversal, commits=commits) == outcome
    assert reversals(admin, entry) == (0 if commits else 1)


@pytest.mark.parametrize("leaves", ["alice", "bob"])
def test_an_exit_that_waits_for_a_reversal_takes_out_the_remaining_balance(
    ledger, session, overlap, level, group, alice, bob, entry, leaves
):
    leave = "exit_group", group, {"alice": alice, "bob": bob}[leaves]
    assert overlap(session(level), ("reverse_transfer", group, entry), session(level), leave) == "done"
    query = "select amount from ledger.list_entries(%s, 'exit')"
    assert one(ledger, query, [group]) == (100,)


@pytest.mark.parametrize(("commits", "outcome", "left"), [(True, "LG003", [199, 1]), (False, "done", [100, 100])])
def test_waits_for_a_transfer_and_does_not_overdraw(
    ledger, session, overlap, level, group, alice, bob, entry, commits, outcome, left
):
    spending, reversal = ("transfer", group, bob, alice, 129), ("reverse_transfer", group, entry)
    assert overlap(session(level), spending, session(level), reversal, commits=commits) == outcome
    assert balances(ledger, group, alice, bob) == left


def test_a_transfer_that_waits_for_a_reversal_does_not_overdraw(
    ledger, session, overlap, level, group, alice, bob, entry
):
    spending, reversal = ("transfer", group, bob, alice, 101), ("reverse_transfer", group, entry)
    assert overlap(session(level), reversal, session(level), spending) == "LG003"
    assert balances(ledger, group, alice, bob) == [100, 100]


@pytest.mark.parametrize("upward", [True, False])
def test_a_reversal_and_a_transfer_in_its_direction_both_move(
    ledger, session, overlap, level, group, alice, bob, entry, upward
):
    reversal, sending = ("reverse_transfer", group, entry), ("transfer", group, alice, bob, 10)
    first, second = (reversal, sending) if upward else (sending, reversal)
    assert overlap(session(level), first, session(level), second) == "done"
    assert balances(ledger, group, alice, bob) == [90, 110]


def test_a_transfer_that_is_not_committed_cannot_be_reversed(session, group, alice, bob):
    sender, other = session(), session()
    entry = transfer(sender, group, alice, bob, 30)
    with pytest.raises(psycopg.DatabaseError) as raised:
        call(other, "reverse_transfer", group, entry)
    assert raised.value.sqlstate == "LG002"
    sender.rollback()
