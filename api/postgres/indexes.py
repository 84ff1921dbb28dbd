"""Build the indexes that a migration needs before it, while transfers go on."""

import re
from pathlib import Path

import psycopg
from psycopg import sql
from yoyo.migrations import Migration

from api.resources import RESOURCES

SCRIPTS = RESOURCES / "db" / "upgrade"
# Each is sent alone: no transaction may contain it.
STATEMENT = re.compile(rb"^create index concurrently if not exists (?P<name>\w+)\b[^;]*", re.MULTILINE)

# As the migrations ask themselves before they build an index of the entries.
IS_LARGE = """
select exists (
  select from pg_class as c
  where c.oid = to_regclass('ledger.entries')
    and (c.reltuples > 1000000 or pg_relation_size(c.oid) > 128 * 1024 * 1024)
)
"""


def build_before(connection: psycopg.Connection, migration: Migration) -> None:
    """Build the indexes that a migration needs, if any; those of a smaller ledger the migration builds in a moment.

    Raises psycopg.Error.
    """
    script = SCRIPTS / f"{migration.id}.index.sql"
    if script.exists() and connection.execute(IS_LARGE).fetchone() == (True,):
        build(connection, script)


def build(connection: psycopg.Connection, script: Path) -> None:
    """Build the indexes of a script, unless they are there and valid. Raises psycopg.Error."""
    connection.execute("set role ledger_owner")
    try:
        for statement in STATEMENT.finditer(script.read_bytes()):
            name = statement["name"].decode()
            query = "select from pg_index as i where i.indexrelid = to_regclass(%s) and not i.indisvalid"
            if connection.execute(query, [f"ledger.{name}"]).fetchall():  # of a run that was ended
                connection.execute(sql.SQL("drop index concurrently {}").format(sql.Identifier("ledger", name)))
            connection.execute(statement[0])
    finally:
        connection.execute("reset role")
