"""Ask the database a question on a connection of its own, with a limit of time."""

import asyncio

import psycopg

from api.postgres.connection import Connection, Values, closed_while_idle, disconnect

PROBE_SETTINGS = """
select set_config('statement_timeout', '{milliseconds}', false), set_config('idle_session_timeout', '0', false)
"""


class Probe:
    """Asks the database a question on a connection of its own, which no request competes for."""

    def __init__(self, conninfo: str, name: str, patience: float) -> None:
        """`patience` is in seconds."""
        self.conninfo = conninfo
        self.name = name
        self.patience = patience
        self.connection: psycopg.AsyncConnection | None = None
        self.attempt: asyncio.Task[Values] | None = None
        self.asked_at: float | None = None  # None while it connects

    async def ask(self, statement: str) -> Values | None:
        """Return the values of the statement's row, or None when there is no answer in time.

        Callers that ask at the same time share one attempt. Connecting may take longer than a caller waits, for
        example when the first of several hosts is dead: it continues, and a later caller uses the connection.
        """
        self.abandon_when_overdue()
        if self.attempt is None or self.attempt.done():
            self.asked_at = None
            self.attempt = asyncio.create_task(self.connect_and_ask(statement))
            self.attempt.add_done_callback(forget)
        attempt = self.attempt
        # Not wait_for, which would wait for the cancelled query as well.
        await asyncio.wait({attempt}, timeout=self.patience)
        if attempt.done():
            return None if attempt.cancelled() or attempt.exception() else attempt.result()
        if self.attempt is attempt:
            self.abandon_when_overdue()
        return None

    def abandon_when_overdue(self) -> None:
        """Disconnect if the question has been unanswered for longer than a caller waits."""
        if self.attempt is None or self.attempt.done() or self.asked_at is None or self.connection is None:
            return
        if asyncio.get_running_loop().time() - self.asked_at >= self.patience:
            self.attempt = None
            disconnect(self.connection)
            self.connection = None

    async def connect_and_ask(self, statement: str) -> Values:
        connection = self.connection
        if connection is not None and not connection.closed and not closed_while_idle(connection):
            try:
                return await self.run(connection, statement)
            except psycopg.OperationalError:
                if not connection.closed or self.attempt is not asyncio.current_task():
                    raise
                # The server closed it at that moment.
        return await self.run(await self.connect(), statement)

    async def run(self, connection: psycopg.AsyncConnection, statement: str) -> Values:
        self.asked_at = asyncio.get_running_loop().time()
        result = (await connection.execute(statement)).pgresult
        assert result is not None
        return [result.get_value(0, column) for column in range(result.nfields)]

    async def connect(self) -> psycopg.AsyncConnection:
        self.asked_at = None
        if self.connection is not None:
            await self.connection.close()
            self.connection = None
        connection = await Connection.connect(self.conninfo, autocommit=True, application_name=self.name)
        self.connection = connection
        # The server need not work on an answer for longer than a caller waits.
        await self.run(connection, PROBE_SETTINGS.format(milliseconds=round(1000 * self.patience)))
        return connection

    async def close(self) -> None:
        if self.attempt is not None and self.asked_at is None:
            self.attempt.cancel()  # it is still connecting
        if self.connection is not None:
            await self.connection.close()


def forget(attempt: asyncio.Task[Values]) -> None:
    """Retrieve an attempt's exception, or asyncio logs that nothing did."""
    if not attempt.cancelled():
        attempt.exception()
