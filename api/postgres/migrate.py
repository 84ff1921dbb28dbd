"""Apply the migrations of db/migrations with yoyo, safely from several deployments at once."""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime

import psycopg
import yoyo
from psycopg import sql
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri
from yoyo.exceptions import LockTimeout
from yoyo.migrations import MigrationList, default_migration_table

from api.postgres import indexes, sessions, upgrade
from api.resources import RESOURCES

MIGRATIONS = RESOURCES / "db" / "migrations"

logger = logging.getLogger(__name__)

# Chosen at random; the key of the advisory lock that one `ledger migrate` or `ledger reset` holds at a time.
LOCK_KEY = 7_263_041_189_520_385

# An empty table. It is there from a reset that dropped API keys until they are required again.
KEYS_WERE_DROPPED = "public.ledger_keys_were_dropped"

# How long another's lock is waited for while a session lives that may hold it, in seconds.
LOCK_TIMEOUT = sessions.LOCK_TIMEOUT

# How long a reset waits for locks on the objects that it drops, in seconds: as a migration does.
DROP_TIMEOUT = 5

# Where yoyo keeps its tables, unless an older run put them elsewhere.
YOYO_SCHEMA = "public"
YOYO_TABLES = ("yoyo_lock", "_yoyo_log", "_yoyo_version", "_yoyo_migration")


class MigrationError(Exception):
    """A migration that did not apply, in words for the person who asked for it."""


class Backend(PostgresqlPsycopgBackend):
    """yoyo's backend on a libpq connection string, whose own URL parser knows only some of them; see sessions.py.

    `found_in` is the schema of yoyo's tables.
    """

    def __init__(self, conninfo: str, name: str, found_in: str = YOYO_SCHEMA) -> None:
        self.conninfo = conninfo
        self.name = name
        self.found_in = found_in
        super().__init__(parse_uri("postgresql+psycopg://"), default_migration_table)

    def connect(self, dburi: object) -> psycopg.Connection:
        return sessions.connect(self.conninfo, self.name, self.found_in)

    def copy(self) -> "Backend":
        return Backend(self.conninfo, self.name, self.found_in)


def shipped() -> MigrationList:
    """The migrations in db/migrations."""
    return yoyo.read_migrations(str(MIGRATIONS))


def migrate(conninfo: str) -> list[str]:
    """Apply the pending migrations and return their names; a database of release 0.1 is upgraded to the first one.

    Waits for a concurrent run, and begins where a killed one left off: each migration is one transaction, and applying
    it again where yoyo had no time to note it changes nothing. Raises MigrationError, psycopg.Error.
    """
    with locked(conninfo) as backend:
        migrations = shipped()
        pending = backend.to_apply(migrations)
        try:
            if upgrade.is_of_0_1(backend.connection):
                upgrade.upgrade(backend, migrations[0])
            for migration in backend.to_apply(migrations):
                indexes.build_before(backend.connection, migration)
                backend.apply_migrations(MigrationList([migration]))
        except upgrade.UpgradeError as error:
            raise MigrationError(str(error)) from error
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
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
        try:
            # One transaction: were it cut in two, a schema could be gone and its migrations still be noted as applied.
            with backend.connection.transaction():
                if had_keys(backend.connection):
                    backend.execute(f"create table if not exists {KEYS_WERE_DROPPED} ()")
                backend.execute(f"set local lock_timeout = '{DROP_TIMEOUT}s'")
                backend.execute("drop schema if exists ledger, ledger_internal cascade")
                for migration in shipped():
                    backend.unmark_one(migration)
                backend.connection.execute(
                    "delete from _yoyo_migration where migration_id = any(%s)", [upgrade.REPLACED]
                )
        except psycopg.errors.LockNotAvailable as error:
            raise MigrationError(
                f"a transaction has used the ledger for {DROP_TIMEOUT} seconds; nothing was changed. Stop the services "
                "first, or run it again at a quieter moment."
            ) from error
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
        sessions.bounded(conninfo), autocommit=True, application_name="ledger migrate: lock", client_encoding="utf8"
    ) as session:
        # The schema in which runs of before this one found their tables: by the settings of the database or the role.
        (before,) = session.execute(
            """
            select n.nspname
            from pg_catalog.pg_class as c
            join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
            where c.oid = pg_catalog.to_regclass('_yoyo_migration')
            """
        ).fetchone() or (YOYO_SCHEMA,)
        sessions.settle(session, YOYO_SCHEMA)
        check_writable(session)
        take_turn(session)
        found_in = schema_of_tables(session, before)
        sessions.settle(session, found_in)
        with Backend(conninfo, f"ledger migrate {session.info.backend_pid}", found_in) as backend:
            backend.init_database()
            check_rights(session, found_in)
            with lock_row(backend, session):
                yield backend


def check_writable(session: psycopg.Connection) -> None:
    """Refuse a database that takes no writes, which yoyo would take for a lock held by another run."""
    standby, read_only, source = session.execute(
        """
        select pg_is_in_recovery(), s.setting = 'on', s.source
        from pg_settings as s where s.name = 'default_transaction_read_only'
        """
    ).fetchone() or (False, False, "")
    if standby:
        raise MigrationError("the database is a replica, which nobody can write: migrate the primary")
    if read_only:
        raise MigrationError(
            f"the database is read-only for {session.info.user}: default_transaction_read_only is on (set at: {source})"
        )


def schema_of_tables(session: psycopg.Connection, before: str) -> str:
    """The schema of the tables in which yoyo marks our migrations; schema ledger has none of them afterwards.

    Where search_path had schema ledger first, runs of yoyo made a second set of tables there. They are dropped if they
    mark nothing, and moved if they are the only ones that do. Raises MigrationError.
    """
    marking = [schema for schema in dict.fromkeys((YOYO_SCHEMA, "ledger", before)) if marks(session, schema)]
    if len(marking) > 1:
        raise MigrationError(
            f"yoyo's tables in schemas {' and '.join(marking)} both mark migrations as applied. Compare their "
            f"_yoyo_migration, and drop the tables that are wrong: {', '.join(YOYO_TABLES)}"
        )
    (chosen,) = marking or [YOYO_SCHEMA]
    stray = tables(session, "ledger")
    if not stray:
        return chosen
    if chosen == "ledger" and (taken := tables(session, YOYO_SCHEMA)):
        raise MigrationError(
            f"yoyo's tables in schema ledger belong into {YOYO_SCHEMA}, which has others that mark no migration of the "
            f"ledger: {', '.join(taken)}. Move or drop those."
        )
    action = f"set schema {YOYO_SCHEMA}" if chosen == "ledger" else None
    with session.transaction():
        for name in stray:
            table = sql.Identifier("ledger", name)
            if action:
                session.execute(sql.SQL("alter table {} " + action).format(table))
            else:
                session.execute(sql.SQL("drop table {}").format(table))
    logger.warning(
        "%s yoyo's tables in schema ledger, where search_path had led it",
        "moved" if action else "dropped the empty set of",
    )
    return YOYO_SCHEMA if action else chosen


def tables(session: psycopg.Connection, schema: str) -> list[str]:
    """Which of yoyo's tables a schema has. Raises MigrationError where somebody else made one."""
    names = [*YOYO_TABLES, KEYS_WERE_DROPPED.partition(".")[2]]
    rows = session.execute(
        """
        select c.relname, r.rolname, r.rolsuper or r.oid = d.datdba or r.rolname = current_user
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        join pg_roles as r on r.oid = c.relowner
        join pg_database as d on d.datname = current_database()
        where n.nspname = %s and c.relname = any(%s)
        order by array_position(%s, c.relname::text)
        """,
        [schema, names, names],
    ).fetchall()
    # A trigger or a policy on them would run with our rights.
    if foreign := [f"{name} of {owner}" for name, owner, known in rows if not known]:
        raise MigrationError(
            f"yoyo's tables belong neither to you nor to the owner of the database: {', '.join(foreign)}"
        )
    return [name for name, _, _ in rows if name in YOYO_TABLES]


def marks(session: psycopg.Connection, schema: str) -> int:
    """How many of our migrations are marked as applied in a schema."""
    if "_yoyo_migration" not in tables(session, schema):
        return 0
    query = sql.SQL("select count(*) from {} where migration_id = any(%s)")
    (number,) = session.execute(
        query.format(sql.Identifier(schema, "_yoyo_migration")),
        [[*upgrade.REPLACED, *(migration.id for migration in shipped())]],
    ).fetchone() or (0,)
    return int(number)


@contextmanager
def lock_row(backend: Backend, session: psycopg.Connection) -> Iterator[None]:
    """Hold yoyo's lock, a row; one that a killed run left is deleted, and that of a run that lives is waited for."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    waiting = False
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(backend.lock(timeout=0.5))
                break
            except LockTimeout as error:
                row = session.execute("select ctime, pid from yoyo_lock").fetchone()
                if row is None:
                    try_to_lock(backend)
                    continue
                holders = possible_holders(session, backend.name, row[0])
                if not holders:
                    session.execute("delete from yoyo_lock where ctime = %s and pid = %s", row)
                    logger.warning("cleared the lock of a migration run that was killed (process %s)", row[1])
                elif time.monotonic() > deadline:
                    raise MigrationError(f"{error}. Sessions that may hold it: {', '.join(holders)}") from error
                elif not waiting:
                    waiting = True
                    logger.warning("waiting for a run of yoyo; sessions that may be it: %s", ", ".join(holders))
        yield


def try_to_lock(backend: Backend) -> None:
    """Raise what keeps yoyo's row from being written, if it is not another row: yoyo takes every error for one."""
    with suppress(psycopg.errors.UniqueViolation), backend.connection.transaction(force_rollback=True):
        backend.connection.execute("insert into yoyo_lock values (1, now() at time zone 'utc', 0)")


def take_turn(session: psycopg.Connection) -> None:
    """Wait for the run of this program that is under way, LOCK_TIMEOUT at most."""
    if session.execute("select pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone() == (True,):
        return
    logger.warning("waiting for another run, up to %.0f seconds: %s", LOCK_TIMEOUT, turn_holders(session))
    session.execute("select set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT}s"])
    try:
        session.execute("select pg_advisory_lock(%s)", [LOCK_KEY])
    except psycopg.errors.LockNotAvailable as error:
        raise MigrationError(
            f"another run has held the lock for {LOCK_TIMEOUT:.0f} seconds: {turn_holders(session)}"
        ) from error


def turn_holders(session: psycopg.Connection) -> str:
    """The sessions that hold the advisory lock."""
    rows = session.execute(
        """
        select format('%%s (%%s, %%s)', a.pid, a.usename, a.application_name)
        from pg_locks as l
        join pg_stat_activity as a on a.pid = l.pid
        where l.locktype = 'advisory' and l.granted and l.objsubid = 1
          and l.database = (select d.oid from pg_database as d where d.datname = current_database())
          and l.classid = (%s::bigint >> 32)::oid and l.objid = (%s::bigint & 4294967295)::oid
        """,
        [LOCK_KEY, LOCK_KEY],
    ).fetchall()
    return ", ".join(row[0] for row in rows)


def check_rights(session: psycopg.Connection, found_in: str) -> None:
    """Refuse a login that cannot keep yoyo's tables, which yoyo would take for a lock held by another run.

    And refuse tables that somebody else may have laid for us.
    """
    tables(session, found_in)
    tables(session, "public")
    (usable,) = session.execute("select has_table_privilege(to_regclass('yoyo_lock'), 'insert')").fetchone() or (None,)
    if usable is None:
        raise MigrationError(
            f"{session.info.user} may not create yoyo's tables: grant create on schema {found_in} to that role"
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
          -- Clocks differ. Sessions of another role hide when they began and their type: each may be the one.
          and coalesce(a.backend_start at time zone 'utc' < %s + interval '1 minute', true)
          and coalesce(a.backend_type, 'client backend') = 'client backend'
          and a.application_name not in ('ledger migrate: lock', %s)
          and a.application_name not like 'ledger serve%%'
        """,
        [locked_at, own_name],
    ).fetchall()
    return [row[0] for row in rows]
