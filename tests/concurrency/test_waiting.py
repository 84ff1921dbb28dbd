"""Calls that must not wait for each other; a call that waits here fails with 55P03."""

import pytest

from tests.support import call, in_background, join, one, wait_until_blocked


@pytest.fixture
def impatient(session):
    connection = session()
    connection.execute("set lock_timeout = '1s'")
    connection.commit()
    return connection


@pytest.fixture
def dave(ledger, group):
    return join(ledger, group, "dave")


@pytest.mark.parametrize("function", ["join_group", "exit_group", "rename_participant", "rename_group", "create_group"])
def test_a_transfer_does_not_wait_for_others_of_the_group(
    session, attempt, impatient, group, alice, bob, dave, function
):
    arguments = {
        "join_group": [group, "carol", 100],
        "exit_group": [group, dave],
        "rename_participant": [group, dave, "david"],
        "rename_group": [group, "ETC"],
        "create_group": ["DAI"],
    }
    call(session(), function, *arguments[function])
    assert attempt(impatient, "transfer", group, alice, bob, 100) == "done"


def test_a_transfer_does_not_wait_for_another_pair(ledger, session, attempt, impatient, group, alice, bob, dave):
    carol = join(ledger, group, "carol")
    call(session(), "transfer", group, alice, dave, 100)
    assert attempt(impatient, "transfer", group, carol, bob, 100) == "done"


def test_a_transfer_does_not_wait_for_a_removal_that_waits(session, attempt, impatient, admin, group, alice, bob, dave):
    leaving, removing = session(), session()
    call(leaving, "exit_group", group, dave)
    with in_background(lambda: attempt(removing, "remove_group", group)) as outcome:
        try:
            wait_until_blocked(admin, removing)
            assert attempt(impatient, "transfer", group, alice, bob, 100) == "done"
        finally:
            leaving.rollback()
    assert outcome == ["LG004"]


def test_a_transfer_does_not_wait_for_the_locks_of_a_removal(session, attempt, impatient, admin, group, alice, bob):
    removing = session(role=admin.info.user)
    removing.execute("select from ledger.groups for update")
    removing.execute("select from ledger.group_total_shards for update")
    assert attempt(impatient, "transfer", group, alice, bob, 100) == "done"


def test_reading_waits_for_nobody(session, attempt, impatient, admin, group, alice):
    locking = session(role=admin.info.user)
    for table in ("groups", "group_total_shards", "participants", "entries"):
        locking.execute(f"select from ledger.{table} for update")
    for function, *arguments in (
        ("health",),
        ("list_groups",),
        ("get_group", group),
        ("group_total", group),
        ("list_participants", group),
        ("get_participant", group, alice),
    ):
        assert attempt(impatient, function, *arguments) == "done"


@pytest.fixture
def apart(session):
    """Two sessions that count in different parts of the total, the second impatient."""
    first = session()
    while True:
        second = session()
        if (second.info.backend_pid - first.info.backend_pid) % 8:
            second.execute("set lock_timeout = '1s'")
            second.commit()
            return first, second


@pytest.mark.parametrize("first_call", ["join_group", "exit_group"])
@pytest.mark.parametrize("second_call", ["join_group", "exit_group"])
def test_joins_and_exits_of_two_sessions_do_not_wait(
    ledger, apart, attempt, group, alice, bob, first_call, second_call
):
    first, second = apart
    call(first, first_call, group, *(["carol", 7] if first_call == "join_group" else [alice]))
    assert attempt(second, second_call, group, *(["dave", 7] if second_call == "join_group" else [bob])) == "done"
    first.commit()
    change = {"join_group": 7, "exit_group": -100}
    assert call(ledger, "group_total", group) == [(200 + change[first_call] + change[second_call],)]


def test_one_transaction_of_many_joins_locks_one_shard(session, admin, group, neighbour):
    joining, counting = session(), session(role=admin.info.user)
    for i in range(20):
        call(joining, "join_group", group, f"p{i}", 1)
    free = one(
        counting,
        "select count(*) from (select from ledger.group_total_shards where group_id = %s for update skip locked) as c",
        [group],
    )
    assert free == (7,)
