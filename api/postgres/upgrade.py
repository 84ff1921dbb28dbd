"""Upgrade a database of release 0.1, whose 18 migrations the baseline of 1.0 replaces."""

from pathlib import Path

import psycopg
from yoyo.backends.base import DatabaseBackend
from yoyo.migrations import Migration

from api.resources import RESOURCES

SCRIPT = RESOURCES / "db" / "upgrade" / "0.1.sql"

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


class UpgradeError(Exception):
    """Why a database of release 0.1 cannot be upgraded."""


def is_of_0_1(connection: psycopg.Connection) -> bool:
    """Return whether a database has the ledger of release 0.1. Raises psycopg.Error."""
    return connection.execute("select to_regclass('ledger.group_counters') is not null").fetchone() == (True,)


def upgrade(backend: DatabaseBackend, baseline: Migration) -> None:
    """Upgrade a database of release 0.1 to the baseline of 1.0 in one transaction.

    Raises UpgradeError where not all migrations of 0.1 are applied, psycopg.Error.
    """
    connection: psycopg.Connection = backend.connection
    backend.ensure_internal_schema_updated()
    with connection.transaction():
        marked = {row[0] for row in connection.execute("select migration_id from _yoyo_migration")}
        if missing := [name for name in REPLACED if name not in marked]:
            raise UpgradeError(
                f"the ledger of release 0.1 lacks migration {missing[0]}: migrate it with release 0.1 first"
            )
        connection.execute(SCRIPT.read_bytes())
        connection.execute(Path(baseline.path).read_bytes())
        connection.execute("reset role")
        connection.execute("delete from _yoyo_migration where migration_id = any(%s)", [REPLACED])
        backend.mark_one(baseline)
