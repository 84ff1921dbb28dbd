"""Compare a database's schema with that of the migrations: db/schema.txt, which `make manifest` writes."""

import re
from collections.abc import Iterable

import psycopg
from psycopg import sql

from api.postgres import migrate
from api.resources import RESOURCES

MANIFEST = RESOURCES / "db" / "schema.txt"
CATALOG = RESOURCES / "db" / "catalog.sql"

NUMBERED = re.compile(r"[0-9]{4}\.")

# How long a migration that is under way is waited for, in seconds.
LOCK_TIMEOUT = 5

Schema = dict[tuple[str, str], str]


def catalog(connection: psycopg.Connection) -> Schema:
    """The schema of a database: a value for each aspect of each object, whatever the session's settings."""
    with connection.transaction():
        connection.execute("set local search_path = ''; set local quote_all_identifiers = off")
        rows = connection.execute(CATALOG.read_bytes()).fetchall()
    # On one line each.
    return {(item, aspect): " ".join(value.split()) for item, aspect, value in rows}


def lines(schema: Schema) -> Iterable[str]:
    """A schema as the lines of the manifest: object, aspect and value between tabs."""
    return ("\t".join((*key, value)) for key, value in sorted(schema.items()))


def shipped() -> Schema:
    """The schema that the migrations of this release make."""
    rows = (line.split("\t") for line in MANIFEST.read_text().splitlines())
    return {(item, aspect): value for item, aspect, value in rows}


def why_not_compared(connection: psycopg.Connection) -> str | None:
    """Why the schema of a database need not be that of this release, in words; None if it must be."""
    query = """
    select n.nspname, c.relname, has_table_privilege(c.oid, 'select')
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid in (to_regclass('public._yoyo_migration'), to_regclass('_yoyo_migration'))
    """
    found = connection.execute(query).fetchall()
    if not found:
        return "it is not noted which migrations were applied"
    own = {migration.id for migration in migrate.shipped()}
    applied: set[str] = set()
    for *table, readable in found:
        if not readable:
            return f"{connection.info.user} may not read which migrations were applied"
        rows = connection.execute(sql.SQL("select migration_id from {}").format(sql.Identifier(*table))).fetchall()
        applied |= {name for (name,) in rows}
    if pending := sorted(own - applied):
        return f"the database lacks {', '.join(pending)}"
    # Another application may share yoyo's tables.
    if newer := sorted(name for name in applied - own if NUMBERED.match(name) and name[:4] > max(own)[:4]):
        return f"the database is of another release, with {', '.join(newer)}"
    return None


def differences(connection: psycopg.Connection) -> tuple[list[str], str | None]:
    """How the schema of a database differs from this release's, in words; and why it was not compared, if it was not.

    Waits a moment for a running migration, and blocks new ones until it returns. Raises psycopg.Error.
    """
    try:
        with connection.transaction():
            connection.execute("select set_config('lock_timeout', %s, true)", [f"{LOCK_TIMEOUT}s"])
            connection.execute("select pg_advisory_xact_lock_shared(%s)", [migrate.LOCK_KEY])
            reason = why_not_compared(connection)
            return ([], reason) if reason else (describe(shipped(), catalog(connection)), None)
    except psycopg.errors.LockNotAvailable:
        return [], "a migration is under way"


def describe(expected: Schema, found: Schema) -> list[str]:
    """Each difference between two schemas, in words; one for an object that only one of them has."""
    expected_objects, found_objects = ({item for item, _ in schema} for schema in (expected, found))
    words = [f"{item} is missing" for item in sorted(expected_objects - found_objects)]
    words += [f"{item} is none of the migrations'" for item in sorted(found_objects - expected_objects)]
    for item, aspect in sorted(expected.keys() | found.keys()):
        if item in expected_objects and item in found_objects:
            should, is_ = expected.get((item, aspect)), found.get((item, aspect))
            if should is None:
                words.append(f"{item} has {aspect} ({is_}), which is none of the migrations'")
            elif is_ is None:
                words.append(f"{item} has no {aspect} ({should})")
            elif should != is_:
                hashed = aspect in ("body", "definition") and len(should) == 64
                words.append(f"{item} has another {aspect}" + ("" if hashed else f": {is_}; it should be: {should}"))
    return words
