"""The index of metadata, built beside writes before the migration that needs it."""

from __future__ import annotations

import psycopg
import pytest

from api import embedded, migrate
from tests.migrations.steps import apply_before
from tests.operations.guide import block
from tests.support import Database, one

BUILD = block("sql", "create index concurrently")
INDEX = """
select indexrelid, pg_get_indexdef(indexrelid), indisvalid, pg_get_userbyid(relowner)
from pg_index join pg_class as c on c.oid = indexrelid
where indexrelid = 'ledger.entries_by_group_and_metadata'::regclass
"""


@pytest.fixture
def before(template, empty: Database) -> psycopg.Connection:
    """The administrator in a database that the migration has not come to."""
    apply_before(empty.url(embedded.ADMIN), "0020.metadata-by-group")
    with empty.connect(embedded.ADMIN) as admin:
        for statement in BUILD.split(";")[:-1]:
            admin.execute(statement)
        yield admin


def test_the_migration_takes_the_index_that_is_there(before, owner):
    built = one(before, INDEX)
    migrate.migrate(before.info.dsn)
    assert one(before, INDEX) == built
    assert built[1:] == (*one(owner, INDEX)[1:],)
    assert built[2:] == (True, "ledger_owner")


def test_the_migration_replaces_an_index_whose_building_failed(before):
    before.execute("reset role")
    before.execute(
        "update pg_index set indisvalid = false where indexrelid = 'ledger.entries_by_group_and_metadata'::regclass"
    )
    left = one(before, INDEX)
    migrate.migrate(before.info.dsn)
    assert one(before, INDEX)[1:] == (left[1], True, "ledger_owner")
    assert one(before, INDEX)[0] != left[0]
