"""Multi-party transfers at the same time as others: no money is made or lost, and none waits forever."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import balance, call, in_background, join, one, transfer, wait_until_blocked


def hold(connection, participant):
    """Lock a participant as a transfer does, until the transaction ends."""
    connection.execute("select from ledger.participants where id = %s for no key update nowait", [participant])


def balances(ledger, group, *participants):
    return [balance(ledger, group, participant) for participant in participants]


def transfers(group, *lines):
    """A call of transfer_all."""
    named = [dict(zip(("from", "to", "amount"), line, strict=True)) for line in lines]
    return "transfer_all", group, json.dumps(named)


@pytest.fixture
def carol(ledger, group, bob):
    return join(ledger, group, "carol")


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
def test_locks_in_ascending_id(ledger, session, admin, attempt, scan, group, alice, bob, carol, upward):
    # In the table the order is now carol, bob, alice.
    for participant, username in ((bob, "robert"), (alice, "alicia")):
        call(ledger, "rename_participant", group, participant, username)
    chain = [(alice, bob, 1), (bob, carol, 1)] if upward else [(carol, bob, 1), (bob, alice, 1)]
    holder, sender = session(role=admin.info.user), session()
    scan(sender)
    hold(holder, bob)
    with in_background(lambda: attempt(sender, *transfers(group, *chain))) as outcome:
        try:
            wait_until_blocked(admin, sender)
            free = "select id from ledger.participants where group_id = %s for no key update skip locked"
            assert admin.execute(free, [group]).fetchall() == [(carol,)]
        finally:
            holder.rollback()
    assert outcome == ["done"]


def test_locks_only_the_participants_of_its_lines(ledger, session, admin, group, alice, bob, carol):
    sender = session()
    call(sender, *transfers(group, (alice, carol, 1)))
    free = "select id from ledger.participants where group_id = %s for no key update skip locked"
    assert admin.execute(free, [group]).fetchall() == [(bob,)]
    sender.rollback()


@pytest.mark.parametrize("upward", [True, False])
def test_opposite_transfers_both_move(ledger, session, overlap, level, group, alice, bob, carol, upward):
    there = transfers(group, (alice, bob, 30), (bob, carol, 130))
    back = transfers(group, (carol, bob, 50), (bob, alice, 50))
    first, second = (there, back) if upward else (back, there)
    assert overlap(session(level), first, session(level), second) == "done"
    assert balances(ledger, group, alice, bob, carol) == [120, 0, 180]


def test_many_at_once_in_every_direction_do_not_deadlock(database, session, admin, attempt, group, alice, bob, carol):
    ring = [alice, bob, carol]

    def send(number):
        connection = sessions[number]
        # A turn of the ring from each starting point, forwards or backwards, which leaves everybody as before.
        turn = [ring[(number + step) % 3] for step in range(4)][:: 1 if number % 2 else -1]
        lines = [(turn[at], turn[at + 1], 1) for at in range(3)]
        return [attempt(connection, *transfers(group, *lines)) for _ in range(25)]

    sessions = [session() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        outcomes = [outcome for those in pool.map(send, range(6)) for outcome in those]
    assert outcomes == ["done"] * 150
    assert one(admin, "select count(*) from ledger.entries where kind = 'transfer'") == (450,)
    with database.connect() as ledger:
        assert balances(ledger, group, alice, bob, carol) == [100, 100, 100]


@pytest.mark.parametrize(("commits", "outcome", "left"), [(True, "LG003", [40, 160]), (False, "done", [20, 180])])
def test_waits_for_a_transfer_and_does_not_overdraw(
    ledger, session, overlap, level, group, alice, bob, commits, outcome, left
):
    single = "transfer", group, alice, bob, 60
    many = transfers(group, *[(alice, bob, 20)] * 4)
    assert overlap(session(level), single, session(level), many, commits=commits) == outcome
    assert balances(ledger, group, alice, bob) == left


@pytest.mark.parametrize(("commits", "outcome", "left"), [(True, "LG003", [20, 180]), (False, "done", [40, 160])])
def test_a_transfer_waits_for_it_and_does_not_overdraw(
    ledger, session, overlap, level, group, alice, bob, commits, outcome, left
):
    many = transfers(group, *[(alice, bob, 20)] * 4)
    single = "transfer", group, alice, bob, 60
    assert overlap(session(level), many, session(level), single, commits=commits) == outcome
    assert balances(ledger, group, alice, bob) == left


@pytest.mark.parametrize(("commits", "outcome", "left"), [(True, "LG003", [20, 180]), (False, "done", [20, 180])])
def test_two_of_them_do_not_overdraw(ledger, session, overlap, level, group, alice, bob, commits, outcome, left):
    many = transfers(group, *[(alice, bob, 20)] * 4)
    assert overlap(session(level), many, session(level), many, commits=commits) == outcome
    assert balances(ledger, group, alice, bob) == left


def test_spends_money_received_while_it_waited(ledger, session, overlap, level, group, alice, bob, carol):
    single = "transfer", group, alice, bob, 100
    assert overlap(session(level), single, session(level), transfers(group, (bob, carol, 200))) == "done"
    assert balances(ledger, group, alice, bob, carol) == [0, 0, 300]
    query = "select (array_agg(to_amount order by id desc))[1] from ledger.list_entries(%s, 'transfer')"
    assert one(ledger, query, [group]) == (300,)


def test_a_snapshot_from_before_a_transfer_does_not_overdraw(ledger, session, attempt, level, group, alice, bob):
    late = session(level)
    late.execute("select")
    transfer(ledger, group, alice, bob, 60)
    assert attempt(late, *transfers(group, (bob, alice, 1), (alice, bob, 42))) == "LG003"
    assert balances(ledger, group, alice, bob) == [40, 160]


@pytest.mark.parametrize("leaves", ["alice", "bob", "carol"])
@pytest.mark.parametrize(("commits", "outcome", "total"), [(True, "LG002", 200), (False, "done", 300)])
def test_is_refused_after_waiting_for_an_exit(
    ledger, session, overlap, level, group, alice, bob, carol, leaves, commits, outcome, total
):
    leave = "exit_group", group, {"alice": alice, "bob": bob, "carol": carol}[leaves]
    chain = transfers(group, (alice, bob, 100), (bob, carol, 100))
    assert overlap(session(level), leave, session(level), chain, commits=commits) == outcome
    assert call(ledger, "group_total", group) == [(total,)]


@pytest.mark.parametrize(("leaves", "total"), [("alice", 300), ("bob", 200), ("carol", 100)])
def test_an_exit_that_waits_for_it_takes_out_the_remaining_balance(
    ledger, session, overlap, level, group, alice, bob, carol, leaves, total
):
    leave = "exit_group", group, {"alice": alice, "bob": bob, "carol": carol}[leaves]
    chain = transfers(group, (alice, bob, 100), (bob, carol, 100))
    assert overlap(session(level), chain, session(level), leave) == "done"
    assert call(ledger, "group_total", group) == [(total,)]


@pytest.mark.parametrize("leaves", ["alice", "bob"])
def test_a_snapshot_from_before_an_exit_does_not_transfer(ledger, session, attempt, level, group, alice, bob, leaves):
    late = session(level)
    late.execute("select")
    call(ledger, "exit_group", group, {"alice": alice, "bob": bob}[leaves])
    assert attempt(late, *transfers(group, (alice, bob, 30))) == "LG002"


def test_its_time_is_taken_after_the_wait(ledger, session, admin, attempt, level, group, alice, bob, carol):
    first, second = session(), session(level)
    call(first, "transfer", group, alice, bob, 1)
    with in_background(lambda: attempt(second, *transfers(group, (bob, carol, 1)))) as outcome:
        try:
            wait_until_blocked(admin, second)
            (waiting,) = one(admin, "select clock_timestamp()")
        finally:
            first.commit()
    assert outcome == ["done"]
    query = "select max(created_at) > %s from ledger.entries where from_id = %s"
    assert one(admin, query, [waiting, bob]) == (True,)


def test_a_repeated_request_waits_for_the_first_and_gets_its_answer(ledger, session, admin, group, alice, bob):
    query = "select to_json(t) from ledger.transfer_all(%s, %s, 'key') as t"
    arguments = transfers(group, (alice, bob, 30), (bob, alice, 1))[1:]
    first, again = session(), session()
    (answer,) = one(first, query, arguments)
    with in_background(lambda: one(again, query, arguments)) as outcome:
        try:
            wait_until_blocked(admin, again)
        finally:
            first.commit()
    assert outcome == [(answer | {"replayed": True},)]
    assert balances(ledger, group, alice, bob) == [71, 129]


def test_a_killed_session_leaves_no_trace(ledger, session, admin, group, alice, bob):
    before = admin.execute("table ledger.entries").fetchall()
    killed = session()
    call(killed, *transfers(group, (alice, bob, 100), (bob, alice, 5)))
    assert one(admin, "select pg_terminate_backend(%s, 30000)", [killed.info.backend_pid]) == (True,)
    assert admin.execute("table ledger.entries").fetchall() == before
    assert balances(ledger, group, alice, bob) == [100, 100]
