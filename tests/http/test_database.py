"""What the connections do that no request can show."""

import asyncio
from collections.abc import Callable, Coroutine

import psycopg
import pytest

from api import database
from api.errors import ConnectionLost
from tests.support import Database, one


def run(shared: Database, use: Callable[[database.Database], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        connections = database.Database(shared.url(shared.service), "ledger serve test")
        await connections.open()
        try:
            await use(connections)
        finally:
            await connections.close()

    asyncio.run(main())


@pytest.mark.parametrize("reads", [False, True])
def test_a_call_that_takes_too_long_is_given_up_and_not_cancelled(shared, monkeypatch, reads):
    monkeypatch.setattr(database, "CALL_TIMEOUT", 0.3)
    slow = f"select pg_sleep(3), '{reads}'"

    async def use(connections: database.Database) -> None:
        with pytest.raises(ConnectionLost):
            await connections.call(slow, {}, reads)
        with shared.connect(shared.admin) as admin:
            # A cancel would have ended it; it goes on, and finds out at its end that nobody listens.
            asleep = "select count(*) from pg_stat_activity where query = %s and state = 'active'"
            assert one(admin, asleep, [slow])[0] == (2 if reads else 1)
        assert await connections.call("select 1", {}, reads) == [b"1"]

    run(shared, use)


def test_a_call_outlives_the_request_that_made_it(shared):
    async def use(connections: database.Database) -> None:
        asking = asyncio.create_task(connections.call("select pg_sleep(0.3)", {}, False))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(connections.under_way) == 1
        await asyncio.wait(connections.under_way)
        assert not connections.under_way

    run(shared, use)


def test_a_deadlock_or_a_serialization_failure_is_tried_once_more(shared, monkeypatch):
    attempts = 0

    async def fail(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise psycopg.errors.SerializationFailure

    async def use(connections: database.Database) -> None:
        monkeypatch.setattr(connections, "attempt", fail)
        with pytest.raises(psycopg.errors.SerializationFailure):
            await connections.call("select 1", {}, False)

    run(shared, use)
    assert attempts == 2
