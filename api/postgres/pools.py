"""Connections to PostgreSQL: pools for calls, one each for the health check and the metrics; what a start checks."""

import asyncio
import os
import re
import select
import socket
import traceback
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Any, Self, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from api.postgres import sessions
from api.postgres.sessions import FIND_THE_VANISHED, NEUTRAL, OWN, SHORTEST, WITHOUT_HASTE, undocumented
from api.problems import ConnectionLost, outcome_is_unknown
from api.routes import ROUTES

T = TypeVar("T")

CALL_CONNECTIONS = 8
# Reads have connections of their own: calls that wait for one participant's lock hold all the others.
READ_CONNECTIONS = 2
# One at a time: what arrives meanwhile shares the next call.
SHARED_CONNECTIONS = 1
# One for API keys that were good a moment ago, and one for those that nobody knows yet: whoever guesses keys does not
# delay the good ones.
ACCESS_CONNECTIONS = 1
# One for pages of the feed, and one to look whether it goes on for clients that wait.
FEED_CONNECTIONS = 2
MAX_WAITING = 1024  # requests that wait for a connection; one more is refused
WAIT_TIMEOUT = 5.0  # seconds that a request waits for a connection
CONNECT_TIMEOUT = 3  # seconds for each host; less than WAIT_TIMEOUT, so that requests outlast one that is dead
CONNECT_PATIENCE = 0.5  # seconds that a request waits while the database cannot be reached
HEAVY = 1 << 20  # characters of a parameter from which on a call has a connection of its own
CALL_TIMEOUT = 12.0  # seconds until a call is given up that the server's own time-outs did not end
RETRY_PAUSE = 0.02  # seconds before a second attempt
HEALTH_TIMEOUT = 1.5  # seconds; the health check answers within 2
ACTIVITY_TIMEOUT = 1.0  # seconds; who scrapes gives up after some

# Time-outs of every connection, unless the login role has its own. Well below CALL_TIMEOUT: the server then says that
# nothing was done.
TIMEOUTS = {"lock_timeout": "5s", "statement_timeout": "10s", "idle_in_transaction_session_timeout": "10s"}
# Every row is looked up: a session keeps its plans, also those from when the tables were so small that reading them
# whole was quicker. An idle session waits for the next request: the server must not end it.
FIXED = NEUTRAL | {"search_path": "", "enable_seqscan": "off", "idle_session_timeout": "0"}
# What the login role sets for itself does not count, but for its time-outs: somebody who had taken it over could have
# done it. A commit is on the disk before it is acknowledged; how far it is on a standby by then, the administrator
# chooses for the server or the database.
SETTINGS = """
with found as materialized (
  select s.name, s.setting, s.reset_val, s.boot_val, s.context, s.source in ('user', 'database user') as by_role
  from pg_catalog.pg_settings as s
), fixed (name, value) as (
  select * from unnest(%(fixed)s::text[], %(fixed_values)s::text[])
), chosen (name, value) as (
  select * from fixed
  union all
  -- The role's or the database's own; `configure` has changed it since.
  select f.name, case when f.reset_val::bigint < %(shortest)s then coalesce(t.value, '0') else f.reset_val end
  from (select * from found where name = any(%(own)s) offset 0) as f
  left join unnest(%(names)s::text[], %(values)s::text[]) as t (name, value) on t.name = f.name
  union all
  select f.name, 'on' from found as f where f.name = 'synchronous_commit' and (f.by_role or f.setting = 'off')
  union all
  select f.name, coalesce(f.boot_val, '')
  from found as f
  where f.by_role
    -- Those of a transaction begin with each from the defaults.
    and f.name not in (
      'synchronous_commit', 'transaction_deferrable', 'transaction_isolation', 'transaction_read_only'
    )
    and f.name <> all(%(own)s)
    and f.name not in (select x.name from fixed as x)
)
select pg_catalog.set_config(c.name, c.value, false)
from chosen as c
join found as f on f.name = c.name
where f.context = 'user' or pg_catalog.current_setting('is_superuser') = 'on'
"""
PROBE_SETTINGS = """
select set_config('statement_timeout', '{milliseconds}', false), set_config('idle_session_timeout', '0', false)
"""
CHOSEN = {
    "names": [*TIMEOUTS],
    "values": [*TIMEOUTS.values()],
    "fixed": [*FIXED],
    "fixed_values": [*FIXED.values()],
    "own": [name for name in OWN if name not in FIXED],
    "shortest": SHORTEST,
}

# Refusals of one attempt that another may pass. Nothing was done.
TRANSIENT = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
# A migration replaced what a prepared statement returned, or the statement is gone. Nothing was done either.
STALE = (psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSqlStatementName)

Values = list[bytes | None]


class Trace:
    """Which of PostgreSQL's processes served a request last, and in which of the worker's shared calls."""

    backend: int | None = None
    batch: int | None = None


class StartError(Exception):
    """A database that cannot be served from, in words for the person who starts the service."""


class Connection(psycopg.AsyncConnection):
    """A connection whose failed attempts are closed at once.

    The error holds them in a cycle: a server that stood still would get them all back as sessions, until Python's
    collector comes.
    """

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Self:
        try:
            return await super().connect(conninfo, **options)
        except psycopg.Error as error:
            traceback.clear_frames(error.__traceback__)
            raise


class Database:
    """What one worker needs of PostgreSQL. Open it in the worker's event loop."""

    def __init__(self, conninfo: str, name: str) -> None:
        ours: dict[str, Any] = {"application_name": name, "connect_timeout": CONNECT_TIMEOUT, "client_encoding": "utf8"}
        self.conninfo = make_conninfo(**(FIND_THE_VANISHED | conninfo_to_dict(conninfo) | ours))
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
        self.under_way: set[asyncio.Task[Any]] = set()
        self.health = Probe(self.conninfo, f"{name} health", HEALTH_TIMEOUT)
        self.activity = Probe(self.conninfo, f"{name} metrics", ACTIVITY_TIMEOUT)

    def pool(self, name: str, size: int) -> AsyncConnectionPool:
        numbers = count(1)

        def options() -> dict[str, object]:
            # Who looks at the server's sessions or into its log finds which worker's connection it is.
            return {"autocommit": True, "application_name": f"{self.name} {name} {next(numbers)}"}

        return AsyncConnectionPool(
            self.conninfo,
            connection_class=Connection,
            kwargs=options,
            min_size=size,
            max_size=size,
            max_waiting=MAX_WAITING,
            # Short, because a pool that gave up begins anew at the next request, without the delays of its back-off.
            reconnect_timeout=1,
            reconnect_failed=self.lose_sight,
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
        # A cancel that comes while the commit waits for a standby would make it visible before it is safe.
        pool = self.reads if reads else self.calls
        (row,) = await self.outlive(self.repeat(pool, statement, parameters, reads, [trace] if trace else []))
        return row

    async def outlive(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call that goes on when its client goes away."""
        task = asyncio.create_task(call)
        self.under_way.add(task)
        task.add_done_callback(self.finish)
        return await asyncio.shield(task)

    def finish(self, task: asyncio.Task[Any]) -> None:
        self.under_way.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio complains of one that nobody looks at, because its client has gone

    async def call_shared(
        self, statement: str, parameters: Mapping[str, str | None], reads: bool, traces: Iterable[Trace] = ()
    ) -> list[Values]:
        """Run a statement for several requests, once; return its rows. Raises as call does."""
        return await self.attempt(self.shared_reads if reads else self.shared, statement, parameters, traces)

    async def call_access(self, statement: str, parameters: Mapping[str, str | None], known: bool) -> list[Values]:
        """Run a statement that says who may come in, and return its rows. Raises as call does.

        `known` chooses the connection that requests with keys nobody knows yet cannot occupy.
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
            # Whoever we stood in the way of goes first.
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
        # A connection keeps the buffer that it once needed: a very large call has one of its own.
        heavy = any(value is not None and len(value) > HEAVY for value in parameters.values())
        connection = await (self.connect("heavy call") if heavy else self.take(pool))
        try:
            backend = connection.pgconn.backend_pid
            for trace in traces:
                trace.backend = backend
            given_up = asyncio.get_running_loop().call_later(CALL_TIMEOUT, hang_up, connection)
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
        """A connection of the pool that was alive a moment ago; whoever takes it puts it back.

        The pool's own `check` waits ever longer from one dead connection to the next: after a restart of the server
        the first requests would time out.
        """
        while True:
            try:
                connection = await pool.getconn(WAIT_TIMEOUT if self.reachable else CONNECT_PATIENCE)
            except PoolTimeout as error:
                if not self.reachable:
                    raise psycopg.OperationalError("the database cannot be reached") from error
                raise
            if not closed_while_idle(connection):
                return connection
            await pool.putconn(connection)

    async def connect(self, name: str) -> psycopg.AsyncConnection:
        """A connection of no pool. Raises psycopg.Error."""
        connection = await Connection.connect(self.conninfo, autocommit=True, application_name=f"{self.name} {name}")
        try:
            await self.configure(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def configure(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(WITHOUT_HASTE)
        await connection.execute(SETTINGS, CHOSEN)
        self.reachable = True

    async def lose_sight(self, pool: AsyncConnectionPool) -> None:
        self.reachable = False


class Probe:
    """A question to the database on a connection of its own, which no request competes for, answered in time."""

    def __init__(self, conninfo: str, name: str, patience: float) -> None:
        """`patience` is in seconds."""
        self.conninfo = conninfo
        self.name = name
        self.patience = patience
        self.connection: psycopg.AsyncConnection | None = None
        self.attempt: asyncio.Task[Values] | None = None
        self.asked_at: float | None = None  # None while it connects

    async def ask(self, statement: str) -> Values | None:
        """The values of the statement's row, or None when there is no answer in time.

        It is asked once for all who ask at the same time. Connecting may take longer than one of them waits, as when
        the first of several hosts is dead: it goes on, and the next one to ask has the benefit of it.
        """
        self.give_up_when_overdue()
        if self.attempt is None or self.attempt.done():
            self.asked_at = None
            self.attempt = asyncio.create_task(self.try_to_ask(statement))
            self.attempt.add_done_callback(forget)
        attempt = self.attempt
        # Not wait_for, which would wait for the cancelled query as well.
        await asyncio.wait({attempt}, timeout=self.patience)
        if attempt.done():
            return None if attempt.cancelled() or attempt.exception() else attempt.result()
        if self.attempt is attempt:
            self.give_up_when_overdue()
        return None

    def give_up_when_overdue(self) -> None:
        """Leave a connection on which the question has been for longer than anybody waits."""
        if self.attempt is None or self.attempt.done() or self.asked_at is None or self.connection is None:
            return
        if asyncio.get_running_loop().time() - self.asked_at >= self.patience:
            self.attempt = None
            hang_up(self.connection)
            self.connection = None

    async def try_to_ask(self, statement: str) -> Values:
        connection = self.connection
        if connection is not None and not connection.closed and not closed_while_idle(connection):
            try:
                return await self.run(connection, statement)
            except psycopg.OperationalError:
                if not connection.closed or self.attempt is not asyncio.current_task():
                    raise
                # The server closed it at this moment.
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
        # For the server's sake: whoever asks waits no longer than that.
        await self.run(connection, PROBE_SETTINGS.format(milliseconds=round(1000 * self.patience)))
        return connection

    async def close(self) -> None:
        if self.attempt is not None and self.asked_at is None:
            self.attempt.cancel()  # it is still connecting
        if self.connection is not None:
            await self.connection.close()


def forget(attempt: asyncio.Task[Values]) -> None:
    """Take note of how a question ended, for asyncio complains of an error that nobody looks at."""
    if not attempt.cancelled():
        attempt.exception()


def hang_up(connection: psycopg.AsyncConnection) -> None:
    """End the conversation at once, without a word to a server that may not listen: whoever waits for it sees the end.

    A cancel would have to be waited for, and one that comes late, while a commit waits for a standby, does harm.
    """
    with suppress(OSError), socket.socket(fileno=os.dup(connection.pgconn.socket)) as sock:
        sock.shutdown(socket.SHUT_RDWR)


def closed_while_idle(connection: psycopg.AsyncConnection) -> bool:
    """Whether the server closed an idle connection, found without a round trip.

    Otherwise a restart of the server would be an unknown outcome to the next request of each connection.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    try:
        while poll.poll(0):  # what a server says unasked: a setting that changed, or good-bye and the end of file
            connection.pgconn.consume_input()
    except psycopg.OperationalError:
        return True
    return False


def is_away(conninfo: str) -> bool:
    """Whether there is no server that answers, or one that is still starting up; one that may come in time.

    Where no patience helps, because a name is unknown or TLS fails, it is not: connecting says why.
    """
    ours = make_conninfo(conninfo, connect_timeout=CONNECT_TIMEOUT)
    match psycopg.pq.PGconn.ping(ours.encode()):
        case psycopg.pq.Ping.REJECT:
            return True
        case psycopg.pq.Ping.NO_RESPONSE:
            try:
                psycopg.connect(ours).close()
            except psycopg.OperationalError as error:
                return not is_permanent(error)
    return False


# What libpq and psycopg say, in English whatever the locale, of that which only a person can change.
PERMANENT = re.compile(
    rf"""
    failed\ to\ resolve\ host\ .*\[Errno\ ({socket.EAI_NONAME}|{socket.EAI_NODATA})\]
    | certificate | private\ key | does\ not\ support\ SSL | GSSAPI\ encryption
    | SSL\ error:\ (?!unexpected\ eof)  # that one is a server that ends
    | invalid\ port\ number
    """,
    re.VERBOSE,
)


def is_permanent(error: psycopg.OperationalError) -> bool:
    """Whether none of the hosts can be reached until somebody changes the connection string or a certificate."""
    # With several addresses: the last error, a heading, and one part for each.
    first, *each = re.split(r"^- host: ", str(error), flags=re.MULTILINE)
    return all(PERMANENT.search(part) for part in each or [first])


@dataclass(frozen=True)
class Checked:
    """What was found at start: the server's version, whether an API key has ever been made, and what to warn of."""

    version: str
    keys_required: bool
    warnings: tuple[str, ...] = ()


def check_at_start(conninfo: str, any_login: bool) -> Checked:
    """Refuse to serve from a database that is out of reach, not migrated, or open wider than it must be.

    Raises StartError.
    """
    try:
        with sessions.connect(conninfo, "ledger serve: check") as connection:
            if connection.info.server_version < 150000:
                raise StartError("the database is older than PostgreSQL 15")
            missing = missing_functions(connection)
            if missing:
                raise StartError(
                    f"the database is not migrated, or {connection.info.user} is no member of ledger_api: "
                    f"{missing[0]} is missing. Run: ledger migrate"
                )
            if not any_login:
                rights = excessive_rights(connection)
                if rights:
                    raise StartError(
                        f"role {connection.info.user} may do more than call the functions: it {', '.join(rights)}. "
                        "Log in as a member of ledger_api and no more, or say --insecure."
                    )
                if settings := undocumented(connection, connection.info.user):
                    raise StartError(
                        f"role {connection.info.user} has settings that its sessions must not have: "
                        f"{', '.join(settings)}. Find out who made them: the login can do it itself. Then, as its "
                        f"administrator, {'; '.join(settings.values())}. Or say --insecure."
                    )
            (required,) = connection.execute("select k.keys_required from ledger.keys_required() as k").fetchone() or (
                True,
            )
            return Checked(
                connection.info.parameter_status("server_version") or "", required, tuple(dangers(connection))
            )
    except psycopg.OperationalError as error:
        where = conninfo_to_dict(conninfo)
        address = f"{where.get('host') or 'the local socket'}, database {where.get('dbname') or 'by default'}"
        raise StartError(f"cannot connect to the database at {address}: {str(error).strip()}") from error


def dangers(connection: psycopg.Connection) -> list[str]:
    """What the server is told that could lose or corrupt acknowledged writes, in words for its administrator.

    Raises StartError where the ledger's own triggers do not run.
    """
    off = {
        name
        for (name,) in connection.execute(
            """
            select s.name from pg_catalog.pg_settings as s
            where s.name in ('fsync', 'full_page_writes') and s.setting = 'off'
              or s.name = 'synchronous_commit' and s.setting = 'off' and s.source not in ('user', 'database user')
              or s.name = 'session_replication_role' and s.setting = 'replica'
            """
        ).fetchall()
    }
    if "session_replication_role" in off:
        raise StartError(
            "session_replication_role is replica for this login, so the triggers that keep the record as it is do not "
            "run. Reset it where it is set: for the role, the database or the server."
        )
    lost = "a crash of the database's machine may lose or corrupt what was acknowledged"
    meanings = {
        "fsync": lost,
        "full_page_writes": lost,
        "synchronous_commit": "the service turns it on for its own sessions; what others commit may be lost in a crash",
    }
    return [f"{name} is off at the database's server: {meaning}" for name, meaning in meanings.items() if name in off]


def missing_functions(connection: psycopg.Connection) -> list[str]:
    """The calls of the table of routes that this login cannot make, as signatures."""
    calls = {f"ledger.{route.function}": [argument.parameter for argument in route.arguments] for route in ROUTES}
    calls |= {
        f"ledger.{route.together}": [f"{argument.parameter}s" for argument in route.shared]
        for route in ROUTES
        if route.together
    }
    calls |= {
        "ledger.authenticate": ["key_id", "digest"],
        "ledger.keys_required": ["keys_required"],
        "ledger.activity": [],
    }
    rows = connection.execute(
        """
        select format('ledger.%s', p.proname), p.proargnames
        from pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'ledger'
          and pg_catalog.has_schema_privilege(n.oid, 'usage')
          and pg_catalog.has_function_privilege(p.oid, 'execute')
        """,
        prepare=False,
    ).fetchall()
    callable_here = {name: set(parameters or ()) for name, parameters in rows}
    return [
        f"{function}({', '.join(parameters)})"
        for function, parameters in calls.items()
        if not set(parameters) <= callable_here.get(function, {"no function"}) or function not in callable_here
    ]


def excessive_rights(connection: psycopg.Connection) -> list[str]:
    """What this login may do beyond executing the published functions, by itself or as a role that it can become."""
    rows = connection.execute(
        """
        with reachable as (
          select r.*, case when r.rolname = session_user then '' else format(' as %%I', r.rolname) end as by_role
          from pg_catalog.pg_roles as r
          where pg_catalog.pg_has_role(session_user, r.oid, 'member')
            -- A superuser is a member of every role: one word says it all.
            and (
              r.rolname = session_user
              or not (select s.rolsuper from pg_catalog.pg_roles as s where s.rolname = session_user)
            )
        )
        select a.may || r.by_role
        from reachable as r
        cross join lateral (
          values
            (r.rolsuper, 'is a superuser'),
            (r.rolcreaterole, 'may create roles'),
            (r.rolcreatedb, 'may create databases'),
            (r.rolbypassrls, 'bypasses row security'),
            (r.rolreplication, 'may replicate')
        ) as a (has, may)
        where a.has
        union all
        select format('is a member of %%I', r.rolname)
        from reachable as r
        where r.rolname not in (session_user, 'ledger_api')
        union all
        select distinct 'may create in the database' || r.by_role
        from reachable as r
        where pg_catalog.has_database_privilege(r.oid, current_database(), 'create') and not r.rolsuper
        union all
        -- The owner of the database takes it away: revoke temporary on database … from public.
        select distinct 'may make temporary tables' || r.by_role
        from reachable as r
        where pg_catalog.has_database_privilege(r.oid, current_database(), 'temporary') and not r.rolsuper
        union all
        select 'may create in schema ledger' || r.by_role
        from reachable as r
        where pg_catalog.has_schema_privilege(r.oid, 'ledger', 'create') and not r.rolsuper
        union all
        select distinct
          format('has rights on %%s %%s', case when c.relkind = 'S' then 'sequence' else 'table' end, c.oid::regclass)
            || r.by_role
        from reachable as r
        cross join pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'ledger'
          and not r.rolsuper
          and case
            when c.relkind in ('r', 'p', 'v', 'm')
            then pg_catalog.has_table_privilege(r.oid, c.oid, 'delete, truncate, trigger')
              or pg_catalog.has_any_column_privilege(r.oid, c.oid, 'select, insert, update, references')
            when c.relkind = 'S'
            then pg_catalog.has_sequence_privilege(r.oid, c.oid, 'usage, select, update')
          end
        union all
        select distinct format('may execute ledger.%%s', p.proname) || r.by_role
        from reachable as r
        cross join pg_catalog.pg_proc as p
        join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = 'ledger'
          and not r.rolsuper
          and p.prosecdef is false -- what is published runs as its owner, what is not does not
          and pg_catalog.has_function_privilege(r.oid, p.oid, 'execute')
        """,
        {},
    ).fetchall()
    return [row[0] for row in rows]
