"""The pools of connections that a worker's calls use."""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from itertools import count
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from api.postgres.connection import (
    CONNECT_TIMEOUT,
    Connection,
    ConnectionLost,
    Values,
    closed_while_idle,
    disconnect,
    outcome_is_unknown,
)
from api.postgres.probe import Probe
from api.postgres.session_settings import CHOSEN, SETTINGS
from api.postgres.sessions import KEEPALIVE, NO_STATEMENT_TIMEOUT

T = TypeVar("T")

CALL_CONNECTIONS = 8
# Reads have connections of their own: calls that wait for one participant's lock hold all the others.
READ_CONNECTIONS = 2
# One batch at a time: requests that arrive during its call make up the next batch.
SHARED_CONNECTIONS = 1
# One for API keys that were good at their last look-up, and one for new API keys, so that guesses at keys do not delay
# good ones.
ACCESS_CONNECTIONS = 1
# One for pages of the feed, and one to poll it for clients that wait.
FEED_CONNECTIONS = 2
MAX_WAITING = 1024  # requests that wait for a connection; one more is refused
WAIT_TIMEOUT = 5.0  # seconds that a request waits for a connection
UNREACHABLE_TIMEOUT = 0.5  # seconds that a request waits while the database cannot be reached
HEAVY = 1 << 20  # characters of a parameter from which on a call has a connection of its own
CALL_TIMEOUT = 12.0  # seconds until a call is given up, if the server's own time-outs did not end it
RETRY_PAUSE = 0.02  # seconds before a second attempt
HEALTH_TIMEOUT = 1.5  # seconds; the health check answers within 2
ACTIVITY_TIMEOUT = 1.0  # seconds; a scraper gives up after some

# Errors after which a second attempt may succeed. Nothing was done.
TRANSIENT = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
# A migration changed the result type of a prepared statement, or the statement is gone. Nothing was done.
STALE = (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)


class Trace:
    """Which backend process of PostgreSQL served a request last, and in which of the worker's batches."""

    backend: int | None = None
    batch: int | None = None


class Database:
    """One worker's connections to PostgreSQL. Open it in the worker's event loop."""

    def __init__(self, conninfo: str, name: str) -> None:
        ours: dict[str, Any] = {"application_name": name, "connect_timeout": CONNECT_TIMEOUT, "client_encoding": "utf8"}
        self.conninfo = make_conninfo(**(KEEPALIVE | conninfo_to_dict(conninfo) | ours))
        self.name = name
        self.calls = self.pool("call", CALL_CONNECTIONS)
        self.reads = self.pool("read", READ_CONNECTIONS)
        self.shared = self.pool("shared", SHARED_CONNECTIONS)
        self.shared_reads = self.pool("shared read", SHARED_CONNECTIONS)
        self.access = self.pool("access", ACCESS_CONNECTIONS)
        self.new_keys = self.pool("new key", ACCESS_CONNECTIONS)
        self.feed = self.pool("feed", FEED_CONNECTIONS)
        self.pools = {
            "call": self.calls,
            "read": self.reads,
            "shared": self.shared,
            "shared read": self.shared_reads,
            "access": self.access,
            "new key": self.new_keys,
            "feed": self.feed,
        }
        self.reachable = True
        self.shielded: set[asyncio.Task[Any]] = set()
        self.health = Probe(self.conninfo, f"{name} health", HEALTH_TIMEOUT)
        self.activity = Probe(self.conninfo, f"{name} metrics", ACTIVITY_TIMEOUT)

    def pool(self, name: str, size: int) -> AsyncConnectionPool:
        numbers = count(1)

        def options() -> dict[str, object]:
            # Shows in the server's log and list of sessions which worker's connection it is.
            return {"autocommit": True, "application_name": f"{self.name} {name} {next(numbers)}"}

        return AsyncConnectionPool(
            self.conninfo,
            connection_class=Connection,
            kwargs=options,
            min_size=size,
            max_size=size,
            max_waiting=MAX_WAITING,
            # Short: a pool that gave up starts again at the next request, without the delays of its back-off.
            reconnect_timeout=1,
            reconnect_failed=self.mark_unreachable,
            configure=self.configure,
            open=False,
        )

    async def open(self) -> None:
        for pool in self.pools.values():
            await pool.open()

    async def close(self) -> None:
        for pool in self.pools.values():
            await pool.close(timeout=1)
        await self.health.close()
        await self.activity.close()

    async def call(
        self, statement: str, parameters: Mapping[str, str | None], reads: bool, trace: Trace | None = None
    ) -> Values:
        """Run a statement that returns one row; return the row's values as PostgreSQL wrote them.

        Repeats it once where nothing was done: after a deadlock or a serialization failure, a prepared statement that
        a migration made stale, and, for one that only reads, a lost connection.
        Raises psycopg.Error, psycopg_pool.PoolTimeout, ConnectionLost.
        """
        # A cancel during a commit that waits for a standby would make the commit visible before it is safe.
        pool = self.reads if reads else self.calls
        (row,) = await self.shield(self.repeat(pool, statement, parameters, reads, [trace] if trace else []))
        return row

    async def shield(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call that continues when its client disconnects."""
        task = asyncio.create_task(call)
        self.shielded.add(task)
        task.add_done_callback(self.finish)
        return await asyncio.shield(task)

    def finish(self, task: asyncio.Task[Any]) -> None:
        self.shielded.discard(task)
        if not task.cancelled():
            task.exception()  # or asyncio logs that nothing retrieved it, if the client has gone

    async def call_batch(
        self, statement: str, parameters: Mapping[str, str | None], reads: bool, traces: Iterable[Trace] = ()
    ) -> list[Values]:
        """Run a statement for a batch of requests, once; return its rows. Raises as call does."""
        return await self.attempt(self.shared_reads if reads else self.shared, statement, parameters, traces)

    async def call_access(self, statement: str, parameters: Mapping[str, str | None], known: bool) -> list[Values]:
        """Run a statement that looks up API keys, and return its rows. Raises as call does.

        `known` chooses the connection for API keys that were good at their last look-up.
        """
        return await self.repeat(self.access if known else self.new_keys, statement, parameters, True, ())

    async def call_feed(
        self, statement: str, parameters: Mapping[str, str | None], traces: Iterable[Trace] = ()
    ) -> list[Values]:
        """Run a statement that reads the feed, and return its rows. Raises as call does."""
        return await self.repeat(self.feed, statement, parameters, True, traces)

    async def repeat(
        self,
        pool: AsyncConnectionPool,
        statement: str,
        parameters: Mapping[str, str | None],
        reads: bool,
        traces: Iterable[Trace],
    ) -> list[Values]:
        try:
            return await self.attempt(pool, statement, parameters, traces)
        except TRANSIENT:
            # Let the other transaction finish first.
            await asyncio.sleep(RETRY_PAUSE)
            return await self.attempt(pool, statement, parameters, traces)
        except ConnectionLost:
            if not reads:
                raise
            return await self.attempt(pool, statement, parameters, traces)

    async def attempt(
        self,
        pool: AsyncConnectionPool,
        statement: str,
        parameters: Mapping[str, str | None],
        traces: Iterable[Trace],
    ) -> list[Values]:
        # A connection keeps the largest buffer that it needed: a very large call has a connection of its own.
        heavy = any(value is not None and len(value) > HEAVY for value in parameters.values())
        connection = await (self.connect("heavy call") if heavy else self.take(pool))
        try:
            backend = connection.pgconn.backend_pid
            for trace in traces:
                trace.backend = backend
            given_up = asyncio.get_running_loop().call_later(CALL_TIMEOUT, disconnect, connection)
            try:
                cursor = await connection.execute(statement, parameters, prepare=True)
            except STALE:
                await connection.execute("deallocate all")
                cursor = await connection.execute(statement, parameters, prepare=True)
            finally:
                given_up.cancel()
        except psycopg.Error as error:
            if connection.closed or outcome_is_unknown(error):
                await connection.close()
                raise ConnectionLost(error.sqlstate) from error
            raise
        finally:
            await (connection.close() if heavy else pool.putconn(connection))
        result = cursor.pgresult
        assert result is not None
        columns = range(result.nfields)
        return [[result.get_value(row, column) for column in columns] for row in range(result.ntuples)]

    async def take(self, pool: AsyncConnectionPool) -> psycopg.AsyncConnection:
        """Take a connection of the pool that was alive a moment ago; the caller returns it to the pool.

        The pool's own `check` waits longer at each dead connection: after a restart of the server the first requests
        would time out.
        """
        while True:
            try:
                connection = await pool.getconn(WAIT_TIMEOUT if self.reachable else UNREACHABLE_TIMEOUT)
            except PoolTimeout as error:
                if not self.reachable:
                    raise psycopg.OperationalError("the database cannot be reached") from error
                raise
            if not closed_while_idle(connection):
                return connection
            await pool.putconn(connection)

    async def connect(self, name: str) -> psycopg.AsyncConnection:
        """Open a connection outside the pools. Raises psycopg.Error."""
        connection = await Connection.connect(self.conninfo, autocommit=True, application_name=f"{self.name} {name}")
        try:
            await self.configure(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def configure(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(NO_STATEMENT_TIMEOUT)
        await connection.execute(SETTINGS, CHOSEN)
        self.reachable = True

    async def mark_unreachable(self, pool: AsyncConnectionPool) -> None:
        self.reachable = False
