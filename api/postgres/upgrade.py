"""Upgrade a database of release 0.1, whose 18 migrations the baseline of 1.0 replaces."""

import time
from pathlib import Path

import psycopg
from yoyo.backends.base import DatabaseBackend
from yoyo.migrations import Migration

from api.postgres import indexes
from api.resources import RESOURCES

SCRIPT = RESOURCES / "db" / "upgrade" / "0.1.sql"
INDEX = RESOURCES / "db" / "upgrade" / "0.1.index.sql"

# The migrations of release 0.1.
REPLACED = [
    "0001.the-ledger",
    "0002.refuse-recipient-overflow",
    "0003.idempotency-keys",
    "0004.the-record",
    "0005.shared-calls",
    "0006.entries-without-foreign-keys",
    "0007.shared-reads",
    "0008.checks-by-function",
    "0009.validate-checks",
    "0010.lone-lines",
    "0011.growth",
    "0012.verify-keys-by-lookup",
    "0013.api-keys",
    "0014.activity",
    "0015.read-cursors-in-decimal",
    "0016.lock-a-lone-transfer-once",
    "0017.write-balances-where-they-are-locked",
    "0018.inline-fingerprints",
]

# Reads and writes go on beside this lock, and while it is waited for. An autovacuum does not: PostgreSQL cancels it
# after deadlock_timeout, a second by default, which is longer than LOCK_TIMEOUT.
LOCK_AGAINST_VACUUM = """
lock table
  ledger.groups, ledger.participants, ledger.group_counters, ledger.entries, ledger.group_totals, ledger.settlements,
  ledger.idempotency_keys, ledger.feeds, ledger.api_keys
in share update exclusive mode
"""
VACUUM_TIMEOUT = "5s"  # for each of these locks
# The views first: a reader locks a view and then its tables.
LOCK = """
lock table
  ledger.current_groups, ledger.current_participants, ledger.record, ledger.groups, ledger.participants,
  ledger.group_counters, ledger.entries, ledger.group_totals, ledger.settlements, ledger.idempotency_keys,
  ledger.feeds, ledger.api_keys
in access exclusive mode
"""
LOCK_TIMEOUT = "100ms"  # for each lock; while it waits, it delays requests that come after it
LOCK_PATIENCE = 30.0  # seconds, for all of them at once
LOCK_PAUSE = 0.5  # seconds between two tries, in which requests go on

JOIN_OWNER = """
do $$
begin
  if not pg_has_role('ledger_owner', 'usage') then
    grant ledger_owner to current_user;
  end if;
exception when insufficient_privilege then
  raise exception using
    errcode = 'insufficient_privilege',
    message = format('%I is no member of ledger_owner', current_user),
    hint    = format('As the creator of that role: grant ledger_owner to %I.', current_user);
end
$$
"""


class UpgradeError(Exception):
    """Why a database of release 0.1 cannot be upgraded."""


def is_of_0_1(connection: psycopg.Connection) -> bool:
    """Return whether a database has the ledger of release 0.1. Raises psycopg.Error."""
    query = """
    select exists (
      select from pg_class as c
      join pg_namespace as n on n.oid = c.relnamespace
      where n.nspname = 'ledger'
        and c.relname = 'group_counters'
    )
    """
    return connection.execute(query).fetchone() == (True,)


def upgrade(backend: DatabaseBackend, baseline: Migration) -> None:
    """Upgrade a database of release 0.1 to the baseline of 1.0 in one transaction.

    The index of metadata is built before it, beside writes. Raises UpgradeError, psycopg.Error.
    """
    connection: psycopg.Connection = backend.connection
    backend.ensure_internal_schema_updated()
    marked = {row[0] for row in connection.execute("select migration_id from _yoyo_migration")}
    if missing := [name for name in REPLACED if name not in marked]:
        raise UpgradeError(f"the ledger of release 0.1 lacks migration {missing[0]}: migrate it with release 0.1 first")
    if connection.execute("select has_database_privilege(current_database(), 'create')").fetchone() == (False,):
        raise UpgradeError(
            f"{connection.info.user} may not create a schema: grant create on database {connection.info.dbname} to "
            "that role"
        )
    connection.execute(JOIN_OWNER)
    build_index(connection)
    try:
        with connection.transaction():
            connection.execute("set local role ledger_owner")
            lock_all(connection)
            connection.execute("reset role")
            connection.execute(SCRIPT.read_bytes())
            connection.execute(Path(baseline.path).read_bytes())
            connection.execute("reset role")
            connection.execute("delete from _yoyo_migration where migration_id = any(%s)", [REPLACED])
            backend.mark_one(baseline)
    except psycopg.errors.DependentObjectsStillExist as error:
        raise UpgradeError(
            f"{error.diag.message_detail}. Nothing was changed: drop your own object, upgrade, and create it again."
        ) from error


def build_index(connection: psycopg.Connection) -> None:
    """Build the baseline's index of metadata beside writes, unless it is there and valid. Raises psycopg.Error."""
    indexes.build(connection, INDEX)


def lock_all(connection: psycopg.Connection) -> None:
    """Lock all that the upgrade changes, or nothing: so no request waits for long behind a lock that waits.

    Raises psycopg.errors.LockNotAvailable where a vacuum does not end, or after LOCK_PATIENCE.
    """
    connection.execute(f"set local lock_timeout = '{VACUUM_TIMEOUT}'")
    connection.execute(LOCK_AGAINST_VACUUM)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            with connection.transaction():  # a savepoint
                connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
                connection.execute(LOCK)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            if time.monotonic() > deadline:
                raise
            time.sleep(LOCK_PAUSE)
        else:
            return
