"""ledger.get_participant and ledger.group_total as of a past moment: a time, or an entry of the group."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.functions.conftest import behind
from tests.support import call, create, join, one, transfer

TICK = timedelta(microseconds=1)


def total(ledger, group, at_time=None, at_entry=None):
    ((amount,),) = call(ledger, "group_total", group, at_time, at_entry)
    return amount


def held(ledger, group, participant, at_time=None, at_entry=None):
    ((_, _, _, amount),) = call(ledger, "get_participant", group, participant, at_time, at_entry)
    return amount


def time_of(ledger, group, entry):
    return call(ledger, "get_entry", group, entry)[0][8]


def when_created(ledger, group, column="created_at"):
    with behind(ledger):
        return one(ledger, f"select {column} from ledger.groups where id = %s", [group])[0]


@pytest.fixture
def record(ledger):
    """Every entry of a group in the order of its history: (id, kind, from, to, balances after it, amount, time)."""

    def read(group):
        with behind(ledger):
            return ledger.execute(
                "select id, kind, from_id, to_id, from_amount, to_amount, amount, created_at from ledger.entries "
                "where group_id = %s order by created_at, id",
                [group],
            ).fetchall()

    return read


@pytest.fixture
def eventful(ledger, group, alice, bob):
    """A group with four participants, of whom two left and one of these joined again."""
    transfer(ledger, group, alice, bob, 30)
    carol = join(ledger, group, "carol", 0)
    lines = [
        {"from": sender, "to": recipient, "amount": amount}
        for sender, recipient, amount in [(bob, carol, 100), (carol, alice, 60), (alice, bob, 1), (bob, carol, 5)]
    ]
    call(ledger, "transfer_all", group, json.dumps(lines))
    call(ledger, "deposit", group, carol, 11)
    call(ledger, "deposit", group, bob, 13)
    call(ledger, "exit_group", group, bob)
    again = join(ledger, group, "bob", 7)
    transfer(ledger, group, alice, again, 50)
    call(ledger, "exit_group", group, carol)
    transfer(ledger, group, again, alice, 1)
    return group


def balances_after(record, last):
    """Return the balances of the present participants after entries up to the last one, added up by hand."""
    balances = {}
    for _, kind, sender, recipient, _, _, amount, _ in record[:last]:
        if sender is not None:
            balances[sender] -= amount
        if recipient is not None:
            balances[recipient] = balances.get(recipient, 0) + amount
        if kind == "exit":
            assert balances.pop(sender) == 0
    return balances


def everybody(record):
    return {side for entry in record for side in entry[2:4] if side is not None}


def check(ledger, refuses, group, record, last, **moment):
    """Everyone's balance, and the total, must be those after the entries up to the last one."""
    balances = balances_after(record, last)
    assert total(ledger, group, **moment) == sum(balances.values())
    for participant in everybody(record):
        if participant in balances:
            assert held(ledger, group, participant, **moment) == balances[participant]
        else:
            at = moment.get("at_time"), moment.get("at_entry")
            refuses("LG002", ["participant_id"], "get_participant", group, participant, *at)


def test_shows_the_balances_after_each_entry(ledger, refuses, eventful, record):
    history = record(eventful)
    for last, (entry, *_) in enumerate(history, 1):
        check(ledger, refuses, eventful, history, last, at_entry=entry)


def test_shows_the_balances_at_each_time(ledger, refuses, eventful, record):
    history = record(eventful)
    times = [entry[-1] for entry in history]
    assert len(set(times)) == len(times) - 3
    for time in set(times):
        for moment in (time - TICK, time, time + TICK):
            last = sum(at <= moment for at in times)
            check(ledger, refuses, eventful, history, last, at_time=moment)


def test_the_present_is_the_last_moment(ledger, eventful, alice, record):
    last = record(eventful)[-1]
    assert held(ledger, eventful, alice, at_entry=last[0]) == held(ledger, eventful, alice)
    assert total(ledger, eventful, at_entry=last[0]) == total(ledger, eventful)
    assert total(ledger, eventful, at_time=last[-1]) == total(ledger, eventful)


def test_later_entries_do_not_change_a_past_moment(ledger, group, alice, bob):
    entry = transfer(ledger, group, alice, bob, 30)
    time = time_of(ledger, group, entry)
    for later in (
        lambda: transfer(ledger, group, bob, alice, 130),
        lambda: join(ledger, group, "carol", 1000),
        lambda: call(ledger, "exit_group", group, bob),
        lambda: call(ledger, "exit_group", group, alice),
    ):
        later()
        assert (held(ledger, group, alice, at_entry=entry), held(ledger, group, bob, at_time=time)) == (70, 130)
        assert total(ledger, group, at_entry=entry) == total(ledger, group, at_time=time) == 200


@pytest.mark.parametrize("at_time", [True, False])
def test_a_participant_who_left_was_present_before(ledger, refuses, group, alice, bob, at_time):
    def moment(entry):
        return {"at_time": time_of(ledger, group, entry)} if at_time else {"at_entry": entry}

    before = transfer(ledger, group, bob, alice, 1)
    ((_, left),) = call(ledger, "exit_group", group, alice)
    assert held(ledger, group, alice, **moment(before)) == 101
    at = {"at_time": None, "at_entry": None} | moment(left)
    refuses("LG002", ["participant_id"], "get_participant", group, alice, *at.values())
    assert total(ledger, group, **moment(before)) == 200
    assert total(ledger, group, **moment(left)) == 99


def test_a_participant_who_joined_later_is_unknown_before(ledger, refuses, group, alice):
    ((_, carol, _, _, joined),) = call(ledger, "join_group", group, "carol", 5)
    time = time_of(ledger, group, joined)
    before = call(ledger, "list_entries", group)[0][1]
    refuses("LG002", ["participant_id"], "get_participant", group, carol, None, before)
    refuses("LG002", ["participant_id"], "get_participant", group, carol, time - TICK, None)
    assert held(ledger, group, carol, at_time=time) == held(ledger, group, carol, at_entry=joined) == 5


def test_shows_the_current_username(ledger, group, alice):
    entry = call(ledger, "list_entries", group)[0][1]
    call(ledger, "rename_participant", group, alice, "alicia")
    assert call(ledger, "get_participant", group, alice, None, entry) == [("alicia", alice, group, 100)]


def test_joining_again_makes_another_participant(ledger, refuses, group, alice):
    first = call(ledger, "list_entries", group)[0][1]
    call(ledger, "exit_group", group, alice)
    again = join(ledger, group, "alice", 7)
    assert held(ledger, group, alice, at_entry=first) == 100
    refuses("LG002", ["participant_id"], "get_participant", group, again, None, first)
    last = call(ledger, "list_entries", group)[-1][1]
    assert held(ledger, group, again, at_entry=last) == 7
    refuses("LG002", ["participant_id"], "get_participant", group, alice, None, last)


def test_shows_amounts_above_64_bits(ledger, group):
    for number in range(2):
        whale = join(ledger, group, f"whale {number}", 2**256 - 1)
    last = call(ledger, "list_entries", group)[-1][1]
    assert held(ledger, group, whale, at_entry=last) == 2**256 - 1
    assert total(ledger, group, at_entry=last) == 2 * (2**256 - 1)


@pytest.mark.parametrize(
    "ahead",
    [
        "update ledger.participants set moved_at = now() + interval '1 hour' where id = %(alice)s",
        "update ledger.group_total_shards set changed_at = now() + interval '1 hour' where group_id = %(group)s",
    ],
    ids=["of-a-participant", "of-the-shards"],
)
def test_history_is_ordered_by_time_where_ids_are_not(ledger, refuses, group, alice, bob, record, ahead):
    carol, dave = join(ledger, group, "carol", 10), join(ledger, group, "dave", 20)
    with behind(ledger):
        ledger.execute(ahead, {"alice": alice, "group": group})
    transfer(ledger, group, alice, bob, 1)
    join(ledger, group, "erin", 5)
    transfer(ledger, group, carol, dave, 1)
    call(ledger, "exit_group", group, carol)
    transfer(ledger, group, bob, dave, 1)
    history = record(group)
    assert [entry[0] for entry in history] != sorted(entry[0] for entry in history)
    for last, (entry, *_) in enumerate(history, 1):
        check(ledger, refuses, group, history, last, at_entry=entry)


def test_a_group_without_entries_had_nothing(ledger, refuses, empty_group):
    created = when_created(ledger, empty_group)
    assert total(ledger, empty_group, at_time=created) == total(ledger, empty_group, at_time=created + TICK) == 0
    refuses("LG002", ["group_id"], "group_total", empty_group, created - TICK, None)


def test_a_group_had_nothing_before_the_first_join(ledger, group):
    created = when_created(ledger, group)
    ((*_, entry),) = call(ledger, "join_group", group, "alice", 100)
    time = time_of(ledger, group, entry)
    assert total(ledger, group, at_time=created) == total(ledger, group, at_time=time - TICK) == 0
    assert total(ledger, group, at_time=time) == 100


@pytest.mark.parametrize("at_time", ["-infinity", "1999-01-01"])
def test_a_time_before_the_group_shows_nothing(refuses, group, alice, at_time):
    refuses("LG002", ["group_id"], "group_total", group, at_time, None)
    refuses("LG002", ["participant_id"], "get_participant", group, alice, at_time, None)


def test_a_group_that_was_removed_had_a_total(ledger, refuses, eventful, alice, record):
    for username, participant, _, _ in call(ledger, "list_participants", eventful):
        assert username in ("alice", "bob")
        call(ledger, "exit_group", eventful, participant)
    call(ledger, "remove_group", eventful)
    history = record(eventful)
    for last, (entry, *_, time) in enumerate(history, 1):
        balances = balances_after(history, last)
        assert total(ledger, eventful, at_entry=entry) == sum(balances.values())
        for participant, amount in balances.items():
            assert held(ledger, eventful, participant, at_entry=entry) == amount
        assert last < len(history) or total(ledger, eventful, at_time=time) == 0
    closed = when_created(ledger, eventful, "closed_at")
    assert total(ledger, eventful, at_time=closed - TICK) == 0
    refuses("LG002", ["group_id"], "group_total", eventful, closed + TICK, None)
    refuses("LG002", ["group_id"], "group_total", eventful)


def test_an_absent_participant_is_named_in_a_removed_group_as_well(ledger, refuses, group, alice):
    joined = call(ledger, "list_entries", group)[0][1]
    bob = join(ledger, group, "bob")
    for participant in (alice, bob):
        call(ledger, "exit_group", group, participant)
    call(ledger, "remove_group", group)
    assert held(ledger, group, alice, at_entry=joined) == 100
    refuses("LG002", ["participant_id"], "get_participant", group, bob, None, joined)


def test_other_groups_are_not_counted(ledger, refuses, group, alice, neighbour):
    other = create(ledger, "Other")
    theirs = join(ledger, other, "alice", 7)
    entry = transfer(ledger, group, alice, join(ledger, group, "bob", 0), 1)
    time = time_of(ledger, group, entry)
    assert total(ledger, group, at_time=time) == 100
    assert total(ledger, other, at_time=time) == 7
    assert total(ledger, neighbour, at_time=time) == 2000
    refuses("LG002", ["participant_id"], "get_participant", group, theirs, time, None)
    refuses("LG002", ["participant_id"], "get_participant", other, alice, time, None)


@pytest.mark.parametrize("ahead", [timedelta(seconds=10), timedelta(days=1), None])
def test_refuses_a_time_in_the_future(refuses, group, alice, ahead):
    at_time = datetime.now(UTC) + ahead if ahead else "infinity"
    refuses("LG001", ["at_time"], "group_total", group, at_time, None)
    refuses("LG001", ["at_time"], "get_participant", group, alice, at_time, None)


def test_a_time_slightly_ahead_means_now(ledger, group, alice):
    ahead = datetime.now(UTC) + timedelta(seconds=3)
    assert one(ledger, "select ledger.group_total(%s, %s)", [group, ahead]) == (100,)
    assert one(ledger, "select amount from ledger.get_participant(%s, %s, %s)", [group, alice, ahead]) == (100,)


def test_now_is_not_the_future(ledger, group, alice):
    assert one(ledger, "select ledger.group_total(%s, clock_timestamp())", [group]) == (100,)
    query = "select amount from ledger.get_participant(%s, %s, clock_timestamp())"
    assert one(ledger, query, [group, alice]) == (100,)


def test_refuses_both_a_time_and_an_entry(refuses, ledger, group, alice):
    entry = call(ledger, "list_entries", group)[0][1]
    time = time_of(ledger, group, entry)
    refuses("LG001", ["at_entry"], "group_total", group, time, entry)
    refuses("LG001", ["at_entry"], "get_participant", group, alice, time, entry)


def test_refuses_an_entry_that_the_group_does_not_have(refuses, ledger, group, alice, neighbour, stranger):
    theirs = call(ledger, "list_entries", neighbour)[0][1]
    for entry in (stranger, theirs):
        refuses("LG002", ["at_entry"], "group_total", group, None, entry)
        refuses("LG002", ["at_entry"], "get_participant", group, alice, None, entry)


def test_refuses_an_unknown_group(refuses, ledger, group, alice, stranger):
    entry = call(ledger, "list_entries", group)[0][1]
    time = time_of(ledger, group, entry)
    for moment in ((time, None), (None, entry)):
        refuses("LG002", ["group_id"], "group_total", stranger, *moment)
        refuses("LG002", ["group_id"], "get_participant", stranger, alice, *moment)


def test_refuses_a_participant_who_never_existed(refuses, ledger, group, alice, stranger):
    entry = call(ledger, "list_entries", group)[0][1]
    for moment in ((time_of(ledger, group, entry), None), (None, entry)):
        refuses("LG002", ["participant_id"], "get_participant", group, stranger, *moment)


@pytest.mark.parametrize("blamed", [["group_id"], ["participant_id"], ["group_id", "participant_id"]])
@pytest.mark.parametrize("at_time", [True, False])
def test_refuses_null(refuses, ledger, group, alice, blamed, at_time):
    entry = call(ledger, "list_entries", group)[0][1]
    moment = (time_of(ledger, group, entry), None) if at_time else (None, entry)
    named = {"group_id": group, "participant_id": alice} | dict.fromkeys(blamed)
    refuses("LG001", blamed, "get_participant", *named.values(), *moment)
    if "group_id" in blamed:
        refuses("LG001", ["group_id"], "group_total", None, *moment)
