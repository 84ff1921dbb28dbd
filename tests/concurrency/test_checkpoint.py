"""Checkpoints beside each other and beside other calls: no movement waits, and each shows one moment."""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.support import Database, call, in_background, join, one, refused, transfer, wait_until_blocked

CHECKPOINT = "select number, header, previous, replayed from ledger.checkpoint(%s, %s)"


def headers(admin: psycopg.Connection, group: int) -> list[tuple]:
    query = "select number, '0x' || encode(header, 'hex') from ledger.checkpoints where group_id = %s order by 1"
    return admin.execute(query, [group]).fetchall()


@pytest.mark.parametrize("commits", [True, False])
def test_a_second_checkpoint_waits_for_the_first(session, admin, group, alice, commits):
    first, second = session(), session()
    _, header, *_ = one(first, CHECKPOINT, [group, None])
    with in_background(lambda: one(second, CHECKPOINT, [group, None])) as outcome:
        try:
            wait_until_blocked(admin, second)
        finally:
            (first.commit if commits else first.rollback)()
    second.commit()
    number, _, previous, _ = outcome[0]
    assert (number, previous) == ((2, header) if commits else (1, "0x" + "00" * 32))
    assert [each for each, _ in headers(admin, group)] == list(range(1, number + 1))


def test_the_numbers_have_no_gaps_at_each_isolation_level(session, admin, overlap, level, group, alice):
    assert overlap(session(level), ("checkpoint", group), session(level), ("checkpoint", group)) == "done"
    assert [number for number, _ in headers(admin, group)] == [1, 2]


def test_the_same_idempotency_key_at_once_makes_one_checkpoint(session, admin, group, alice):
    first, second = session(), session()
    (number, *_, replayed) = one(first, CHECKPOINT, [group, "k"])
    with in_background(lambda: one(second, CHECKPOINT, [group, "k"])) as outcome:
        try:
            wait_until_blocked(admin, second)
        finally:
            first.commit()
    second.commit()
    assert (number, replayed, outcome[0][0], outcome[0][3]) == (1, False, 1, True)


def test_no_movement_waits_for_a_checkpoint(session, ledger, group, alice, bob):
    checkpointing = session()
    one(checkpointing, CHECKPOINT, [group, None])
    ledger.execute("set lock_timeout = '1ms'")
    transfer(ledger, group, alice, bob, 1)
    carol = join(ledger, group, "carol")
    call(ledger, "deposit", group, carol, 1)
    entry = call(ledger, "exit_group", group, carol)[0][1]
    call(ledger, "settle_exit", group, entry, "0xa")
    call(ledger, "bind_address", group, alice, f"0x{7:040x}")
    checkpointing.commit()


def test_a_checkpoint_waits_for_no_movement_and_leaves_out_open_ones(session, ledger, admin, group, alice, bob):
    moving = session()
    transfer(moving, group, alice, bob, 30)
    call(moving, "deposit", group, alice, 5)
    ledger.execute("set lock_timeout = '1ms'")
    call(ledger, "checkpoint", group)
    moving.commit()
    call(ledger, "checkpoint", group)
    amounts = [
        [amount for (amount,) in ledger.execute("select amount from ledger.list_leaves(%s, %s)", [group, number])]
        for number in (1, 2)
    ]
    assert amounts == [[100, 100], [75, 130]]
    admin.execute("set role ledger_owner")
    assert one(admin, "select ledger.drop_checkpoint_chunks(%s, 1)", [group]) == (1,)
    assert [a for (a,) in ledger.execute("select amount from ledger.list_leaves(%s, 1)", [group])] == [100, 100]


def test_the_feed_waits_for_no_leaf_and_no_entry_that_is_read(ledger, admin, group, alice):
    # The functions that pack the leaves and hash the entries see whether the transaction has a number.
    for name in ("pack_chunk", "seal_entries"):
        (source,) = one(admin, "select pg_get_functiondef(oid) from pg_proc where proname = %s", [name])
        check = "begin\n  assert pg_current_xact_id_if_assigned() is null;"
        admin.execute(source.replace("begin", check, 1).encode())
    assert one(ledger, CHECKPOINT, [group, None])[0] == 1
    assert one(ledger, CHECKPOINT, [group, "k"])[0] == 2


def test_without_the_lock_a_second_one_of_the_same_number_is_not_taken_for_made(session, admin, database, group, alice):
    first, second = session(role=database.admin), session(role=database.admin)
    add = "select ledger_internal.add_checkpoint(%s)"
    assert one(first, add, [group]) == (1,)
    with in_background(lambda: refused(second, "40001", add, [group])):
        try:
            wait_until_blocked(admin, second)
        finally:
            first.commit()
    second.rollback()
    assert one(admin, "select count(*) from ledger.checkpoint_chunks") == (1,)
    assert admin.execute("select detail from ledger_internal.verify_checkpoints(%s, 0, null)", [group]).fetchall() == []


def test_above_read_committed_it_has_the_transactions_snapshot(session, ledger, admin, group, alice, bob):
    repeatable = session(IsolationLevel.REPEATABLE_READ)
    one(repeatable, "select count(*) from ledger.list_groups()")
    transfer(ledger, group, alice, bob, 30)
    call(repeatable, "checkpoint", group)
    repeatable.commit()
    assert [a for (a,) in ledger.execute("select amount from ledger.list_leaves(%s, 1)", [group])] == [100, 100]
    assert admin.execute("select kind, detail from ledger.verify()").fetchall() == []


def test_a_killed_backend_leaves_no_checkpoint(session, ledger, admin, group, alice):
    killed = session()
    one(killed, CHECKPOINT, [group, "k"])
    assert one(admin, "select pg_terminate_backend(%s, 10000)", [killed.info.backend_pid]) == (True,)
    for table in ("checkpoints", "checkpoint_chunks"):
        assert admin.execute(f"select from ledger.{table}").fetchall() == []
    assert one(ledger, CHECKPOINT, [group, "k"])[0] == 1


def test_a_backend_killed_at_any_moment_leaves_none_or_a_whole_one(database, admin, group, alice):
    chance = random.Random(7)
    admin.execute(
        """
        with joined as (
          insert into ledger.participants (group_id, username, amount)
          select %s, 'p' || i, 0 from generate_series(1, 5000) as i
          returning *
        )
        insert into ledger.entries (group_id, kind, to_id, amount, to_amount, created_at)
        select group_id, 'join', id, amount, amount, joined_at from joined
        """,
        [group],
    )
    for _ in range(12):
        with database.connect() as killed:

            def make(connection: psycopg.Connection = killed) -> None:
                connection.execute("select ledger.checkpoint(%s)", [group])

            with in_background(make):
                time.sleep(chance.random() * 0.12)
                admin.execute("select pg_terminate_backend(%s, 10000)", [killed.info.backend_pid])
    query = """
        select c.number, c.leaf_count, sum(octet_length(k.leaves) / (36 + k.width))
        from ledger.checkpoints as c
        left join ledger.checkpoint_chunks as k on k.group_id = c.group_id and k.number = c.number
        group by c.number, c.leaf_count
        order by c.number
    """
    found = admin.execute(query).fetchall()
    assert [number for number, *_ in found] == list(range(1, len(found) + 1))
    assert {tuple(counts) for _, *counts in found} <= {(5001, 5001)}
    assert one(admin, "select count(*) from ledger.checkpoint_chunks") == (5 * len(found),)
    assert admin.execute("select detail from ledger_internal.verify_checkpoints(%s, 0, null)", [group]).fetchall() == []


def test_each_total_is_exact_beside_movements_of_every_kind(database, ledger, admin, group):
    totals = []
    with movements(database, ledger, group, participants=20, clients=3) as clients:
        # At least 25, and as many more as it takes the clients to move the total ten times.
        while len(totals) < 25 or len(set(totals)) < 10:
            assert all(client.is_alive() for client in clients)
            totals += one(ledger, "select total from ledger.checkpoint(%s)", [group])
    made = checkpoints_are_right(admin)
    assert [total for _, total in made] == totals


def test_each_leaf_is_right_beside_a_minute_of_sixteen_clients(database, ledger, admin, group):
    with movements(database, ledger, group, participants=3000, clients=16) as clients:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert all(client.is_alive() for client in clients)
            one(ledger, "select number from ledger.checkpoint(%s)", [group])
    made = checkpoints_are_right(admin)
    assert len({total for _, total in made}) > 1
    # Each leaf is what `at` gives for the moment of the participant's latest entry in the snapshot.
    query = """
        select count(*)
        from ledger.checkpoints as c
        cross join ledger.list_leaves(%s, c.number, 0, 10000) as l
        cross join lateral (
          select e.*
          from ledger.entries as e
          where e.group_id = c.group_id
            and l.participant_id in (e.from_id, e.to_id)
            and pg_visible_in_snapshot(e.xid, c.snapshot)
          order by e.created_at desc, e.id desc
          limit 1
        ) as moved
        where c.number = %s
          and l.amount = case
            when moved.kind = 'exit' then moved.amount
            else (ledger.get_participant(c.group_id, l.participant_id, moved.created_at)).amount
          end
          and l.exit_entry is not distinct from case when moved.kind = 'exit' then moved.id end
    """
    for number in {1, len(made) // 3, 2 * len(made) // 3, len(made)}:
        (leaves,) = one(admin, "select leaf_count from ledger.checkpoints where number = %s", [number])
        assert one(admin, query, [group, number])[0] == leaves


@contextmanager
def movements(
    database: Database, ledger: psycopg.Connection, group: int, participants: int, clients: int
) -> Iterator[list[threading.Thread]]:
    """Make transfers, deposits, joins, exits and settlements of a group in several sessions while the context lasts."""
    people = [join(ledger, group, f"p{number}", 1000) for number in range(participants)]
    stop = threading.Event()

    def work(seed: int) -> None:
        chance, joined = random.Random(seed), 0
        with database.connect() as connection:
            while not stop.is_set():
                sender, recipient = chance.sample(people, 2)
                try:
                    if chance.random() < 0.5:
                        transfer(connection, group, sender, recipient, chance.randint(1, 20))
                    else:
                        call(connection, "deposit", group, recipient, chance.randint(1, 20))
                    if chance.random() < 0.2:
                        joined += 1
                        guest = join(connection, group, f"guest {seed} {joined}", chance.randint(0, 9))
                        address = f"0x{seed:020x}{joined:020x}"
                        entry = call(connection, "exit_group", group, guest, None, None, address)[0][1]
                        if chance.random() < 0.7:
                            call(connection, "settle_exit", group, entry, "0xa")
                except psycopg.Error as error:
                    assert error.sqlstate in ("LG003",), error  # noqa: PT017

    workers = [threading.Thread(target=work, args=[seed]) for seed in range(1, clients + 1)]
    for worker in workers:
        worker.start()
    try:
        yield workers
    finally:
        stop.set()
        for worker in workers:
            worker.join(30)


def checkpoints_are_right(admin: psycopg.Connection) -> list[tuple]:
    """Compare all checkpoints with the record, and return the number and the total of each."""
    made = admin.execute("select number, total, credited - settled from ledger.checkpoints order by 1").fetchall()
    assert [number for number, *_ in made] == list(range(1, len(made) + 1))
    assert [total for _, total, _ in made] == [difference for *_, difference in made]
    # The chunks of each equal the leaves that the record gives for its snapshot.
    query = """
        select c.number
        from ledger.checkpoints as c
        where (select array_agg(k order by k.chunk) from ledger.checkpoint_chunks as k where k.number = c.number)
          is distinct from (select array_agg(r order by r.chunk) from ledger_internal.recompute_chunks(c) as r)
    """
    assert admin.execute(query).fetchall() == []
    assert admin.execute("select kind, detail from ledger.verify()").fetchall() == []
    return [(number, total) for number, total, _ in made]
