"""Apply the migrations of db/migrations with yoyo, safely from several deployments at once."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

import psycopg
import yoyo
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.exceptions import LockTimeout
from yoyo.migrations import MigrationList, default_migration_table

from api.resources import RESOURCES

MIGRATIONS = RESOURCES / "db" / "migrations"

logger = logging.getLogger(__name__)

# Chosen at random; the key of the advisory lock that one `ledger migrate` or `ledger reset` holds at a time.
LOCK_KEY = 7_263_041_189_520_385

# An empty table. It is there from a reset that dropped API keys until they are required again.
KEYS_WERE_DROPPED = "public.ledger_keys_were_dropped"

# How long another's lock is waited for while a session lives that may hold it, in seconds.
LOCK_TIMEOUT = 60.0


class MigrationError(Exception):
    """A migration that did not apply, in words for the person who asked for it."""


class Backend(PostgresqlPsycopgBackend):
    """yoyo's backend on a libpq connection string: its own URL parser knows only some of them."""

    def __init__(self, conninfo: str, name: str) -> None:
        self.conninfo = conninfo
        self.name = name
        super().__init__(parse_uri("postgresql+psycopg://"), default_migration_table)

    def connect(self, dburi: object) -> psycopg.Connection:
        return psycopg.connect(self.conninfo, autocommit=True, application_name=self.name, client_encoding="utf8")

    def copy(self) -> "Backend":
        return Backend(self.conninfo, self.name)


def shipped() -> MigrationList:
    """The migrations in db/migrations."""
    return yoyo.read_migrations(str(MIGRATIONS))


def migrate(conninfo: str) -> list[str]:
    """Apply the pending migrations and return their names.

    Waits for a concurrent run, and begins where a killed one left off: each migration is one transaction, and applying
    it again where yoyo had no time to note it changes nothing. Raises MigrationError, psycopg.Error.
    """
    with locked(conninfo) as backend:
        pending = backend.to_apply(shipped())
        try:
            backend.apply_migrations(pending)
        except psycopg.errors.LockNotAvailable as error:
            raise MigrationError(
                "a migration did not get a lock in time and gave up, so as not to stall the service; it changed "
                "nothing. Run it again at a quieter moment."
            ) from error
        require_keys_again(backend.connection)
        return [migration.id for migration in pending]


def reset(conninfo: str) -> None:
    """Drop the schema with all that it holds, and apply every migration again.

    If there were API keys, they are dropped, and still required. Raises MigrationError, psycopg.Error.
    """
    with locked(conninfo) as backend:
        backend.ensure_internal_schema_updated()
        # One transaction: were it cut in two, a schema could be gone and its migrations still be noted as applied.
        with backend.connection.transaction():
            if had_keys(backend.connection):
                backend.execute(f"create table if not exists {KEYS_WERE_DROPPED} ()")
            backend.execute("drop schema if exists ledger cascade")
            for migration in shipped():
                backend.unmark_one(migration)
    migrate(conninfo)


def had_keys(connection: psycopg.Connection) -> bool:
    """Return whether an API key has ever been made. Raises psycopg.Error."""
    ((table,),) = connection.execute("select to_regclass('ledger.api_keys')")
    if table is None:
        return False
    ((made,),) = connection.execute("select exists (select from ledger.api_keys)")
    return bool(made)


def require_keys_again(connection: psycopg.Connection) -> None:
    """Require an API key, as before a reset: one that is revoked is enough for that. Raises psycopg.Error."""
    with connection.transaction():
        ((table,),) = connection.execute(f"select to_regclass('{KEYS_WERE_DROPPED}')")
        if table is None:
            return
        ((key,),) = connection.execute("select id from ledger.create_api_key('keys dropped by ledger reset', 'read')")
        connection.execute("select ledger.revoke_api_key(%s)", [key])
        connection.execute(f"drop table {KEYS_WERE_DROPPED}")


@contextmanager
def locked(conninfo: str) -> Iterator[Backend]:
    """Hold the right to migrate: against runs of this program by an advisory lock, against yoyo's own by its row."""
    with psycopg.connect(
        conninfo, autocommit=True, application_name="ledger migrate: lock", client_encoding="utf8"
    ) as session:
        take_turn(session)
        with Backend(conninfo, f"ledger migrate {session.info.backend_pid}") as backend:
            backend.init_database()
            check_rights(session)
            deadline = time.monotonic() + LOCK_TIMEOUT
            with ExitStack() as held:
                while True:
                    try:
                        held.enter_context(backend.lock(timeout=0.5))
                        break
                    except LockTimeout as error:
                        row = session.execute("select ctime, pid from yoyo_lock").fetchone()
                        if row is None:
                            continue
                        holders = possible_holders(session, backend.name, row[0])
                        if not holders:
                            session.execute("delete from yoyo_lock where ctime = %s and pid = %s", row)
                            logger.warning("cleared the lock of a migration run that was killed (process %s)", row[1])
                        elif time.monotonic() > deadline:
                            raise MigrationError(f"{error}. Sessions that may hold it: {', '.join(holders)}") from error
                yield backend


def take_turn(session: psycopg.Connection) -> None:
    """Wait for the run of this program that is under way, LOCK_TIMEOUT at most."""
    session.execute("select set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT}s"])
    try:
        session.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
    except psycopg.errors.LockNotAvailable as error:
        holders = session.execute(
            """
            select format('%%s (%%s, %%s)', a.pid, a.usename, a.application_name)
            from pg_locks as l
            join pg_stat_activity as a on a.pid = l.pid
            where l.locktype = 'advisory' and l.granted and l.objsubid = 1
              and l.classid = (%s::bigint >> 32)::oid and l.objid = (%s::bigint & 4294967295)::oid
            """,
            [LOCK_KEY, LOCK_KEY],
        ).fetchall()
        names = ", ".join(row[0] for row in holders)
        raise MigrationError(f"another run has held the lock for {LOCK_TIMEOUT:.0f} seconds: {names}") from error


def check_rights(session: psycopg.Connection) -> None:
    """Refuse a login that cannot keep yoyo's tables, which yoyo would take for a lock held by another run.

    And refuse tables that somebody else may have laid for us: a trigger on them would run with our rights.
    """
    foreign = session.execute(
        """
        select format('%%s of %%I', c.oid::regclass, r.rolname)
        from pg_class as c
        join pg_roles as r on r.oid = c.relowner
        join pg_database as d on d.datname = current_database()
        where c.oid in (
            to_regclass('yoyo_lock'), to_regclass('_yoyo_log'), to_regclass('_yoyo_version'),
            to_regclass('_yoyo_migration'), to_regclass(%s)
          )
          and not r.rolsuper
          and r.oid <> d.datdba
          and r.rolname <> current_user
        """,
        [KEYS_WERE_DROPPED],
    ).fetchall()
    if foreign:
        names = ", ".join(row[0] for row in foreign)
        raise MigrationError(f"yoyo's tables belong neither to you nor to the owner of the database: {names}")
    (usable,) = session.execute("select has_table_privilege(to_regclass('yoyo_lock'), 'insert')").fetchone() or (None,)
    if usable is None:
        raise MigrationError(
            f"{session.info.user} may not create yoyo's tables: grant create on schema public to that role"
        )
    if not usable:
        raise MigrationError(
            f"{session.info.user} may not write yoyo's tables: migrate as their owner, or grant that role to this one"
        )


def possible_holders(session: psycopg.Connection, own_name: str, locked_at: datetime) -> list[str]:
    """The sessions that may have written yoyo's lock row at that time (UTC), which outlives a run that was killed.

    A run is connected from before it writes the row until it has deleted it. So the row is abandoned when every
    session is younger, but for those that are known to be others: our own, runs that wait as we did, the service's.
    """
    rows = session.execute(
        """
        select format('%%s (%%s)', a.pid, a.application_name)
        from pg_stat_activity as a
        where a.datname = current_database()
          and a.usesysid is not null
          -- Clocks differ. Sessions of another role hide when they began and what they are: each may be the one.
          and coalesce(a.backend_start at time zone 'utc' < %s + interval '1 minute', true)
          and coalesce(a.backend_type, 'client backend') = 'client backend'
          and a.application_name not in ('ledger migrate: lock', %s)
          and a.application_name not like 'ledger serve%%'
        """,
        [locked_at, own_name],
    ).fetchall()
    return [row[0] for row in rows]
