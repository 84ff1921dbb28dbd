"""Idempotency keys at once: a request that is repeated by any session at any time makes one movement."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support import call, create, in_background, join, one, wait_until_blocked

TRANSFER = "select * from ledger.transfer(%s, %s, %s, 5, 'key')"


@pytest.fixture
def pair(database) -> list[int]:
    """group, alice, bob, who have 100 each."""
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        return [group, join(ledger, group, "alice", 100), join(ledger, group, "bob", 100)]


def entries(database) -> int:
    with database.connect(database.admin) as admin:
        return one(admin, "select count(*) from ledger.entries where kind = 'transfer'")[0]


def test_a_repeated_request_waits_for_the_first_and_gets_its_answer(database, pair):
    with database.connect(autocommit=False) as first, database.connect() as again, database.connect() as observer:
        answer = one(first, TRANSFER, pair)
        with in_background(lambda: one(again, TRANSFER, pair)) as outcome:
            wait_until_blocked(observer, again)
            first.commit()
        assert outcome == [(*answer[:-1], True)]
    assert entries(database) == 1


def test_a_repeated_request_is_done_where_the_first_was_rolled_back(database, pair):
    with database.connect(autocommit=False) as first, database.connect() as again, database.connect() as observer:
        one(first, TRANSFER, pair)
        with in_background(lambda: one(again, TRANSFER, pair)) as outcome:
            wait_until_blocked(observer, again)
            first.rollback()
        assert outcome[0][-1] is False
    assert entries(database) == 1


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_a_snapshot_from_before_the_first_does_nothing(database, pair, level):
    with database.connect() as first, database.connect(autocommit=False) as late:
        late.isolation_level = level
        late.execute("select ledger.health()")  # takes the snapshot
        call(first, "transfer", *pair, 5, "key")
        with pytest.raises(psycopg.errors.SerializationFailure):
            one(late, TRANSFER, pair)
        late.rollback()
        assert one(late, TRANSFER, pair)[-1] is True
        late.commit()
    assert entries(database) == 1


@pytest.mark.parametrize("level", [psycopg.IsolationLevel.REPEATABLE_READ, psycopg.IsolationLevel.SERIALIZABLE])
def test_a_join_whose_snapshot_does_not_show_the_first_does_nothing(database, pair, level):
    # Only the idempotency key conflicts: the participant has left.
    query = "select * from ledger.join_group(%s, 'carol', 5, 'key')"
    with database.connect() as first, database.connect(autocommit=False) as late:
        late.isolation_level = level
        late.execute("select ledger.health()")
        carol = one(first, query, pair[:1])[1]
        call(first, "exit_group", pair[0], carol)
        with pytest.raises(psycopg.errors.SerializationFailure):
            one(late, query, pair[:1])
        late.rollback()
        assert one(late, query, pair[:1])[-1] is True


def test_a_thousand_repeats_at_once_make_one_movement(database, pair):
    def repeat(times: int) -> list[tuple]:
        with database.connect() as connection:
            return [one(connection, TRANSFER, pair) for _ in range(times)]

    with ThreadPoolExecutor(20) as pool:
        answers = [answer for batch in pool.map(repeat, [50] * 20) for answer in batch]
    assert len(answers) == 1000
    assert len({answer[:-1] for answer in answers}) == 1
    assert sorted(answer[-1] for answer in answers) == [False] + [True] * 999
    assert entries(database) == 1


def test_a_killed_request_leaves_its_idempotency_key_free(database, pair):
    first = database.connect(autocommit=False)
    one(first, TRANSFER, pair)
    with database.connect(database.admin) as admin:
        admin.execute("select pg_terminate_backend(%s, 10000)", [first.info.backend_pid])
    first.close()
    with database.connect() as again:
        assert one(again, TRANSFER, pair)[-1] is False
    assert entries(database) == 1


@pytest.mark.parametrize("renamed_first", [True, False])
def test_a_transfer_beside_a_rename_is_answered_again_as_the_first_time(database, pair, renamed_first):
    group, alice, _ = pair

    def rename(connection: psycopg.Connection) -> tuple:
        return call(connection, "rename_participant", group, alice, "alicia")

    def transfer(connection: psycopg.Connection) -> tuple:
        return one(connection, TRANSFER, pair)

    begin, follow = (rename, transfer) if renamed_first else (transfer, rename)
    with database.connect(autocommit=False) as first, database.connect() as second, database.connect() as observer:
        begun = begin(first)
        with in_background(lambda: follow(second)) as outcome:
            wait_until_blocked(observer, second)
            first.commit()
        made = outcome[0] if renamed_first else begun
        assert ("alicia" in made[1]) is renamed_first
        assert transfer(observer) == (*made[:-1], True)
