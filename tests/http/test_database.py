"""Behaviour of the connections that no request can show."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine

import psycopg
import pytest
from psycopg import pq

from api.postgres import pools
from api.postgres.connection import ConnectionLost
from tests.conftest import VERSION
from tests.support import Database, one, until


def run(shared: Database, use: Callable[[pools.Database], Coroutine[None, None, None]]) -> None:
    async def main() -> None:
        connections = pools.Database(shared.url(shared.service), "ledger serve test")
        await connections.open()
        try:
            await use(connections)
        finally:
            await connections.close()

    asyncio.run(main())


@pytest.mark.parametrize("reads", [False, True])
def test_a_call_that_takes_too_long_is_abandoned_but_not_cancelled(shared, monkeypatch, reads):
    monkeypatch.setattr(pools, "CALL_TIMEOUT", 0.3)
    slow = f"select pg_sleep(3), '{reads}'"

    async def use(connections: pools.Database) -> None:
        with pytest.raises(ConnectionLost):
            await connections.call(slow, {}, reads)
        with shared.connect(shared.admin) as admin:
            # A cancel would have ended it; it goes on, and finds out at its end that nobody listens.
            asleep = "select count(*) from pg_stat_activity where query = %s and state = 'active'"
            assert one(admin, asleep, [slow])[0] == (2 if reads else 1)
        assert await connections.call("select 1", {}, reads) == [b"1"]

    run(shared, use)


def test_a_call_outlives_the_request_that_made_it(shared):
    async def use(connections: pools.Database) -> None:
        asking = asyncio.create_task(connections.call("select pg_sleep(0.3)", {}, False))
        await asyncio.sleep(0.1)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert len(connections.shielded) == 1
        await asyncio.wait(connections.shielded)
        assert not connections.shielded

    run(shared, use)


def test_a_call_is_repeated_once_after_a_deadlock_or_a_serialization_failure(shared, monkeypatch):
    attempts = 0

    async def fail(*_: object) -> None:
        nonlocal attempts
        attempts += 1
        raise psycopg.errors.SerializationFailure

    async def use(connections: pools.Database) -> None:
        monkeypatch.setattr(connections, "attempt", fail)
        with pytest.raises(psycopg.errors.SerializationFailure):
            await connections.call("select 1", {}, False)

    run(shared, use)
    assert attempts == 2


def test_tcp_detects_a_lost_server_unless_the_connection_string_sets_another_limit():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://127.0.0.1:{server.getsockname()[1]}/ledger?keepalives_count=5"
        connections = pools.Database(url, "ledger serve test")
        connecting = pq.PGconn.connect_start(connections.conninfo.encode())

        def is_connected() -> bool:
            connecting.connect_poll()
            return connecting.status != pq.ConnStatus.STARTED

        try:
            until(is_connected)
            with socket.socket(fileno=os.dup(connecting.socket)) as sock:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
                assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [30, 10, 5, 60_000]
        finally:
            connecting.finish()


@pytest.mark.skipif(VERSION < 17, reason="transaction_timeout is new in PostgreSQL 17")
def test_a_session_that_a_time_out_ends_is_a_lost_connection(shared):
    """Its class of errors is another one than that of connections that are lost."""

    async def main() -> None:
        url = shared.url(shared.service) + "&options=-c%20transaction_timeout%3D200ms"
        connections = pools.Database(url, "ledger serve test")
        await connections.open()
        try:
            with pytest.raises(ConnectionLost) as raised:
                await connections.call("select pg_sleep(5)", {}, False)
            assert raised.value.sqlstate == "25P04"
        finally:
            await connections.close()

    asyncio.run(main())
