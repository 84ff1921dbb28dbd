"""Shared calls beside other sessions: they wait for no session, and lose nothing."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.support import balance, call, in_background, join, one, transfer, wait_until_blocked

CALL = "select outcome from ledger.transfer_batch(%s, %s, %s, %s::numeric[], %s) order by place"


def each(connection: psycopg.Connection, *lines: tuple, keys: list | None = None) -> list[str]:
    columns = [list(column) for column in zip(*lines, strict=True)]
    # A session that waits, although none should, gets an error.
    connection.execute("set lock_timeout = '10s'")
    return [row[0] for row in connection.execute(CALL, [*columns, keys]).fetchall()]


@pytest.fixture
def carol(ledger, group):
    return join(ledger, group, "carol")


def test_a_locked_row_is_not_waited_for(session, ledger, group, alice, bob, carol):
    holder = session()
    call(holder, "transfer", group, alice, bob, 1)
    assert each(ledger, (group, bob, carol, 1), (group, carol, alice, 1)) == ["locked", "locked"]
    dave = join(ledger, group, "dave")
    assert each(ledger, (group, bob, carol, 1), (group, carol, dave, 1)) == ["locked", "done"]
    assert each(ledger, (group, bob, carol, 1)) == ["locked"]
    holder.commit()
    assert each(ledger, (group, bob, carol, 1)) == ["done"]


def test_an_idempotency_key_that_another_session_holds_is_not_waited_for(session, ledger, group, alice, bob, carol):
    holder = session()
    call(holder, "transfer", group, alice, bob, 1, "key")
    dave = join(ledger, group, "dave")
    assert each(ledger, (group, carol, dave, 1), (group, carol, dave, 1), keys=["key", "other"]) == ["deferred", "done"]
    assert each(ledger, (group, carol, dave, 1), keys=["key"]) == ["deferred"]
    holder.rollback()
    assert each(ledger, (group, carol, dave, 1), keys=["key"]) == ["done"]


def test_a_line_that_is_ruled_out_locks_nobody(session, ledger, group, alice, bob, carol):
    shared, holder = session(), session()
    dave, erin = join(ledger, group, "dave"), join(ledger, group, "erin")
    call(ledger, "transfer", group, alice, bob, 1, "used")
    call(holder, "deposit", group, join(ledger, group, "frank"), 1, "held")
    lines = [(group, alice, bob, 1), (group, alice, dave, 1), (group, bob, dave, 0), (group, carol, erin, 1)]
    assert each(shared, *lines, keys=["used", "held", None, None]) == ["deferred", "deferred", "deferred", "done"]
    ledger.execute("set lock_timeout = '1ms'")
    transfer(ledger, group, alice, bob, 1)
    transfer(ledger, group, bob, dave, 1)
    for participant in (carol, erin):
        with pytest.raises(psycopg.errors.LockNotAvailable):
            transfer(ledger, group, participant, alice, 1)
    shared.commit()


def test_a_transfer_waits_for_a_shared_call(session, ledger, overlap, group, alice, bob):
    first, second = session(), session()
    each(first, (group, alice, bob, 100))
    assert overlap(first, ("transfer", group, bob, alice, 1), second, ("transfer", group, alice, bob, 2)) == "LG003"
    assert balance(ledger, group, alice) == 1


@pytest.mark.parametrize("commits", [True, False])
def test_a_transfer_with_the_idempotency_key_waits_for_a_shared_call(
    session, ledger, group, alice, bob, admin, commits
):
    first = session()
    assert each(first, (group, alice, bob, 1), keys=["key"]) == ["done"]
    repeat = "select replayed from ledger.transfer(%s, %s, %s, 1, 'key')"
    with in_background(lambda: one(ledger, repeat, [group, alice, bob])) as outcome:
        try:
            wait_until_blocked(admin, ledger)
        finally:
            (first.commit if commits else first.rollback)()
    assert outcome == [(commits,)]


def test_an_exit_is_not_overtaken(session, ledger, group, alice, bob, carol):
    leaver = session()
    call(leaver, "exit_group", group, bob)
    assert each(ledger, (group, alice, bob, 1), (group, alice, carol, 1)) == ["locked", "done"]
    leaver.commit()
    assert each(ledger, (group, alice, bob, 1)) == ["deferred"]


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_above_read_committed_a_stale_snapshot_makes_nothing(session, ledger, level, group, alice, bob):
    stale = session(level)
    call(stale, "health")
    call(ledger, "transfer", group, alice, bob, 100)
    with pytest.raises(psycopg.errors.SerializationFailure):
        each(stale, (group, alice, bob, 100))
    stale.rollback()
    assert each(stale, (group, alice, bob, 100)) == ["deferred"]


def test_shared_calls_and_single_ones_at_once_lose_nothing(database, ledger, group, alice, bob, carol):
    everyone = [alice, bob, carol, *(join(ledger, group, f"p{number}") for number in range(5))]

    def work(seed: int) -> int:
        chance, made = random.Random(seed), 0
        with database.connect() as connection:
            for _ in range(40):
                lines = [(group, *chance.sample(everyone, 2), chance.randint(1, 20)) for _ in range(10)]
                keys = [f"{seed}-{chance.random()}" if chance.random() < 0.5 else None for _ in lines]
                if chance.random() < 0.7:
                    made += each(connection, *lines, keys=keys).count("done")
                    continue
                with suppress(psycopg.DatabaseError):  # the sender may have too little
                    call(connection, "transfer", *lines[0])
                    made += 1
        return made

    with ThreadPoolExecutor(6) as pool:
        made = sum(pool.map(work, range(6)))
    with database.connect(database.admin) as admin:
        assert one(admin, "select count(*) from ledger.entries where kind = 'transfer'") == (made,)
        assert admin.execute("select * from ledger.verify()").fetchall() == []
    assert one(ledger, "select ledger.group_total(%s)", [group]) == (800,)
