"""plpgsql_check finds no wrong type or name, unused variable, or missing return in any function.

It comes with Debian's packages for PostgreSQL 15, so it runs on a server of that version, whichever the others run on.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded, migrate
from db import freeze

try:
    FOUND = (embedded.binaries(15).parent / "lib" / "plpgsql_check.so").is_file()
except embedded.EmbeddedError:
    FOUND = False

# It takes a row of values for a text.
ASSIGNED_ROWS = "ledger_internal.post_transfer: warning target type is different type than source type"

pytestmark = pytest.mark.skipif(not FOUND, reason="needs apt-get install postgresql-15 postgresql-15-plpgsql-check")


@pytest.fixture(scope="module")
def checked() -> Iterator[psycopg.Connection]:
    with tempfile.TemporaryDirectory(prefix="ledger-") as data, embedded.running(Path(data), 15):
        migrate.migrate(embedded.url(Path(data)))
        with psycopg.connect(embedded.url(Path(data)), autocommit=True) as admin:
            with admin.transaction():
                admin.execute(freeze.edits())
            admin.execute("create extension plpgsql_check")
            yield admin


def test_plpgsql_check_finds_nothing(checked: psycopg.Connection) -> None:
    functions = checked.execute(
        """
        select
          p.oid,
          -- The table that a trigger is on; 0 where there is none.
          coalesce((select min(t.tgrelid::bigint) from pg_trigger as t where t.tgfoid = p.oid), 0)
        from pg_proc as p
        join pg_language as l on l.oid = p.prolang
        where p.pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace) and l.lanname = 'plpgsql'
        """
    ).fetchall()
    assert len(functions) > 20
    found = {
        line
        for function, table in functions
        for (line,) in checked.execute(
            """
            select format('%%s: %%s %%s', %(function)s::oid::regproc, c.level, c.message)
            from plpgsql_check_function_tb(
              %(function)s::oid, %(table)s::oid, extra_warnings => true, security_warnings => true
            ) as c
            -- It calls what refuses a value that is no variable, which is refused.
            where c.sqlstate not like 'LG%%'
            """,
            {"function": function, "table": table},
        )
    }
    assert found == {ASSIGNED_ROWS}
