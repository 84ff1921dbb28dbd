"""The roll-back of migration 0002: refused while data would be lost; otherwise the ledger works afterwards."""

from collections.abc import Iterator

import psycopg
import pytest

from api.postgres import embedded, migrate
from tests.conftest import Server, cloned
from tests.migrations.steps import NAMES, apply, apply_before, contents, fingerprint_of, lost, roll_back
from tests.support import one, refused

NAME = "0002.exits"
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
# The data that the roll-back would lose.
KEPT = {
    "deposit": "select ledger.deposit(1, 1, 5)",
    "address": f"select ledger.bind_address(1, 1, '{ADDRESS}')",
    "join-with-address": f"select ledger.join_group(1, 'carol', 5, address => '{ADDRESS}')",
    "exit-with-address": f"select ledger.exit_group(1, 1, address => '{ADDRESS}')",
    "settlement": "select ledger.settle_exit(1, (select id from ledger.list_entries(1, 'exit')), '0x5f')",
    "checkpoint": "select ledger.checkpoint(1)",
}


@pytest.fixture(scope="module")
def filled_once(server: Server, template: object, cloning: psycopg.Connection) -> Iterator[str]:
    """The name of a database with this migration, and a ledger of two participants and an exit."""
    with cloned(cloning, "ledger_filled"):
        conninfo = server.database("ledger_filled").url(embedded.ADMIN)
        apply_before(conninfo, NAME)
        apply(conninfo, NAME)
        with psycopg.connect(conninfo, autocommit=True) as database:
            database.execute("select ledger.create_group('ETH')")
            for name in ("alice", "bob", "gone"):
                database.execute("select ledger.join_group(1, %s, 2::numeric ^ 200)", [name])
            database.execute("select ledger.transfer(1, 1, 2, 5)")
            database.execute("select ledger.exit_group(1, 3)")
        yield "ledger_filled"


@pytest.fixture
def filled(server: Server, cloning: psycopg.Connection, filled_once: str) -> Iterator[str]:
    """A copy of that database."""
    with cloned(cloning, "ledger_copy", filled_once):
        yield server.database("ledger_copy").url(embedded.ADMIN)


@pytest.mark.parametrize("statement", KEPT.values(), ids=KEPT.keys())
def test_is_refused_with_rows_to_lose_and_changes_nothing(filled, statement):
    with psycopg.connect(filled, autocommit=True) as database:
        database.execute(statement)
    before = fingerprint_of(filled), contents(filled)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as raised:
        roll_back(filled, NAME)
    assert raised.value.diag.message_hint
    assert (fingerprint_of(filled), contents(filled)) == before


def test_checkpoints_are_kept_also_where_the_columns_are_gone(filled):
    with psycopg.connect(filled, autocommit=True) as database:
        database.execute("select ledger.checkpoint(1)")
        database.execute("drop domain ledger.ethereum_address cascade")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        roll_back(filled, NAME)
    with psycopg.connect(filled) as database:
        assert one(database, "select count(*) from ledger.checkpoints") == (1,)


def test_without_such_rows_nothing_is_lost_and_the_ledger_works(filled):
    values = contents(filled)
    for table in ("participants", "settlements", "group_total_history"):
        for row in values[table]:
            for column in ("address", "address_xid", "settled_xid", "participant_id"):
                assert row.pop(column, None) is None
    roll_back(filled, NAME)
    assert lost(values, contents(filled)) == []
    with psycopg.connect(filled, autocommit=True) as database:
        refused(database, "42883", "select ledger.deposit(1, 1, 5)")
        refused(database, "LG001", "select ledger.list_entries(1, 'deposit')")
        database.execute("select ledger.join_group(1, 'carol', 5)")
        database.execute("select ledger.settle_exit(1, (select id from ledger.list_entries(1, 'exit')), '0x5f')")
        assert database.execute("select * from ledger.verify()").fetchall() == []

    assert migrate.migrate(filled) == NAMES[NAMES.index(NAME) :]
    with psycopg.connect(filled, autocommit=True) as database:
        # Recorded without its transaction's number.
        assert one(database, "select settled_at is not null, settled_xid is null from ledger.settlements") == (
            True,
            True,
        )
        database.execute("select ledger.deposit(1, 1, 5)")
        assert database.execute("select * from ledger.verify()").fetchall() == []


def test_a_repeatable_read_session_is_refused(filled):
    with psycopg.connect(filled) as database:
        database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        text = (migrate.MIGRATIONS / f"{NAME}.rollback.sql").read_bytes()
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            database.execute(text)
