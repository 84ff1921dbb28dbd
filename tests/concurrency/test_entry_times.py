"""The time of an entry: taken once its locks are held, and never below that of either side's previous entry."""

import json
import random
from itertools import pairwise
from threading import Thread

import pytest

from tests.support import call, in_background, join, one, transfer, wait_until_blocked

HISTORY = """
select id, kind, from_id, to_id, amount, created_at
from ledger.entries
where group_id = %s
order by created_at, id
"""
LAST = """
select created_at
from ledger.entries
where group_id = %s
order by id desc
limit 1
"""

CALLS = ["sends", "receives", "sends with others", "is reversed", "leaves"]


@pytest.fixture
def carol(ledger, group, alice, bob):
    """A participant with a transfer to alice that can be reversed."""
    carol = join(ledger, group, "carol")
    transfer(ledger, group, carol, alice, 10)
    return carol


@pytest.fixture
def calls(ledger, admin, group, alice, bob, carol):
    """Calls in each of which alice takes part, so that each waits for another one."""
    ((entry,),) = admin.execute("select id from ledger.entries where from_id = %s", [carol]).fetchall()
    return {
        "sends": ("transfer", group, alice, bob, 5),
        "receives": ("transfer", group, bob, alice, 5),
        "sends with others": (
            "transfer_all",
            group,
            json.dumps([{"from": carol, "to": bob, "amount": 1}, {"from": alice, "to": carol, "amount": 1}]),
        ),
        "is reversed": ("reverse_transfer", group, entry),
        "leaves": ("exit_group", group, alice),
    }


@pytest.fixture
def waits(admin, attempt):
    """Have a call wait for one that is open; the time just before that one ended, while the other waited."""

    def waits(first, first_call, second, second_call):
        call(first, *first_call)
        with in_background(lambda: attempt(second, *second_call)) as outcome:
            try:
                wait_until_blocked(admin, second)
                (waiting_at,) = one(admin, "select clock_timestamp()")
            finally:
                first.commit()
        assert outcome == ["done"]
        return waiting_at

    return waits


@pytest.mark.parametrize("second", CALLS)
@pytest.mark.parametrize("first", CALLS[:-1])
def test_an_entry_that_waited_is_later_than_the_one_it_waited_for(session, admin, waits, group, calls, first, second):
    if first == second == "is reversed":
        # A transfer is reversed once.
        second = "leaves"
    waiting_at = waits(session(), calls[first], session(), calls[second])
    times = [entry[-1] for entry in admin.execute(HISTORY, [group])]
    assert [time > waiting_at for time in times[-1 - written(second) :]] == [False] + [True] * written(second)
    assert len(set(times[-written(second) :])) == 1


@pytest.mark.parametrize("second", ["sends", "sends with others", "leaves"])
def test_an_entry_that_waited_is_later_at_each_isolation_level(session, admin, waits, level, group, calls, second):
    waiting_at = waits(session(level), calls["sends"], session(level), calls[second])
    times = [entry[-1] for entry in admin.execute(HISTORY, [group])]
    assert [time > waiting_at for time in times[-1 - written(second) :]] == [False] + [True] * written(second)


def written(name):
    """How many entries a call writes."""
    return 2 if name == "sends with others" else 1


@pytest.fixture
def alike(session, level):
    """Two sessions that count in the same part of the total."""
    first = session(level)
    while True:
        second = session(level)
        if (second.info.backend_pid - first.info.backend_pid) % 8 == 0:
            return first, second


@pytest.mark.parametrize("second", ["joins", "leaves"])
@pytest.mark.parametrize("first", ["joins", "leaves"])
def test_a_join_or_exit_that_waited_for_a_shard_is_later(alike, admin, waits, group, alice, bob, first, second):
    first_call = ("join_group", group, "carol", 5) if first == "joins" else ("exit_group", group, alice)
    second_call = ("join_group", group, "dave", 5) if second == "joins" else ("exit_group", group, bob)
    waiting_at = waits(alike[0], first_call, alike[1], second_call)
    *_, before, last = admin.execute(HISTORY, [group]).fetchall()
    assert before[-1] < waiting_at < last[-1]


def test_a_join_that_waited_for_a_username_is_later(session, admin, attempt, level, group, alice, bob):
    leaving, joining = session(level), session(level)
    call(leaving, "exit_group", group, alice)
    with in_background(lambda: attempt(joining, "join_group", group, "alice", 5)) as outcome:
        try:
            wait_until_blocked(admin, joining)
            (waiting_at,) = one(admin, "select clock_timestamp()")
        finally:
            leaving.commit()
    assert outcome == ["done"]
    *_, exited, joined = admin.execute(HISTORY, [group]).fetchall()
    assert (exited[1], joined[1]) == ("exit", "join")
    assert exited[-1] < waiting_at < joined[-1]


@pytest.mark.parametrize("second", CALLS)
def test_is_not_below_that_of_a_side_when_the_clock_steps_back(ledger, admin, group, alice, calls, second):
    (ahead,) = one(
        admin,
        "update ledger.participants set moved_at = clock_timestamp() + interval '1 day' where id = %s "
        "returning moved_at",
        [alice],
    )
    call(ledger, *calls[second])
    assert one(admin, LAST, [group]) == (ahead,)
    moved = admin.execute("select id from ledger.participants where moved_at = %s", [ahead]).fetchall()
    took_part = (
        "select count(distinct s.id) from ledger.entries cross join lateral (values (from_id), (to_id)) as s (id)"
    )
    assert one(admin, took_part + " where created_at = %s", [ahead]) == (len(moved),)


@pytest.mark.parametrize("second", ["joins", "leaves"])
def test_is_not_below_that_of_the_shard_when_the_clock_steps_back(ledger, admin, group, alice, second):
    (ahead,) = one(admin, "select clock_timestamp() + interval '1 day'")
    admin.execute("update ledger.group_total_shards set changed_at = %s where group_id = %s", [ahead, group])
    if second == "joins":
        join(ledger, group, "carol")
    else:
        call(ledger, "exit_group", group, alice)
    assert one(admin, LAST, [group]) == (ahead,)
    participant = "select joined_at, exited_at from ledger.participants where group_id = %s order by moved_at desc"
    assert ahead in one(admin, participant + " limit 1", [group])


def test_an_entry_after_a_future_one_is_not_earlier(ledger, admin, group, alice, bob):
    admin.execute("update ledger.participants set moved_at = now() + interval '1 day' where id = %s", [alice])
    entries = [transfer(ledger, group, alice, bob, 1)]
    carol = join(ledger, group, "carol")
    entries.append(transfer(ledger, group, bob, carol, 1))
    entries.append(call(ledger, "exit_group", group, carol)[0][1])
    dave = join(ledger, group, "dave")
    entries.append(transfer(ledger, group, alice, dave, 1))
    times = [call(ledger, "get_entry", group, entry)[0][8] for entry in entries]
    assert times == sorted(times)
    assert times[0] > one(admin, "select now() + interval '23 hours'")[0]


def test_the_total_follows_the_times_of_two_shards(session, ledger, admin, group):
    """The first of two joins has the later time."""
    ahead, here = session(), session()
    while (ahead.info.backend_pid - here.info.backend_pid) % 8 == 0:
        here = session()
    admin.execute(
        "update ledger.group_total_shards set changed_at = now() + interval '1 day' where group_id = %s and slot = %s",
        [group, ahead.info.backend_pid % 8],
    )
    later = join_entry(ahead, group, "alice", 7)
    earlier = join_entry(here, group, "bob", 11)
    assert later < earlier
    assert [entry[0] for entry in admin.execute(HISTORY, [group])] == [earlier, later]
    assert call(ledger, "group_total", group, None, earlier) == [(11,)]
    assert call(ledger, "group_total", group, None, later) == [(18,)]
    assert one(ledger, "select ledger.group_total(%s, clock_timestamp())", [group]) == (11,)
    assert call(ledger, "group_total", group) == [(18,)]


def join_entry(connection, group, username, amount):
    ((*_, entry),) = call(connection, "join_group", group, username, amount)
    connection.commit()
    return entry


def test_the_total_at_each_entry_is_joins_less_exits_up_to_it(session, ledger, admin, attempt, group):
    sessions = [session() for _ in range(4)]
    chance = random.Random(4)
    deposits = [[chance.randrange(1000) for _ in range(25)] for _ in sessions]
    failed = []

    def work(number):
        connection = sessions[number]
        present = []
        for deposit in deposits[number]:
            ((_, participant, *_),) = call(
                connection, "join_group", group, f"{number} {len(present)} {deposit}", deposit
            )
            connection.commit()
            present.append(participant)
            if len(present) == 2:
                outcomes = {
                    attempt(connection, "transfer", group, *present, 1 + deposit // 3),
                    attempt(connection, "exit_group", group, present.pop(0)),
                }
                failed.extend(outcomes - {"done", "LG003"})

    threads = [Thread(target=work, args=[number]) for number in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert failed == []

    history = admin.execute(HISTORY, [group]).fetchall()
    assert len({entry[1] for entry in history}) == 3
    total, totals = 0, {}
    for entry, kind, _, _, amount, time in history:
        total += {"join": amount, "deposit": amount, "transfer": 0, "exit": -amount}[kind]
        totals[time] = total
        assert call(ledger, "group_total", group, None, entry) == [(total,)]
    for time, total in totals.items():
        assert call(ledger, "group_total", group, time) == [(total,)]
    for side in (2, 3):
        for participant in {entry[side] for entry in history} - {None}:
            own = [entry for entry in history if participant in entry[2:4]]
            assert all(before[0] < after[0] and before[-1] <= after[-1] for before, after in pairwise(own))
