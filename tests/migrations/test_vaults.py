"""The roll-back of migration 0003: refused while a group is linked; otherwise the ledger works afterwards."""

import psycopg
import pytest

from api.postgres import migrate
from tests.migrations.steps import NAMES, apply, apply_before, contents, fingerprint_of, lost, put_data_in, roll_back
from tests.support import one, refused

NAME = "0003.vaults"
ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


@pytest.fixture
def filled(conninfo: str) -> str:
    """A ledger with addresses, a checkpoint and this migration."""
    apply_before(conninfo, NAME)
    put_data_in(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as database:
        database.execute("select ledger.join_group(1, 'addressed', 5, address => %s)", [ADDRESS])
        database.execute("select ledger.checkpoint(1)")
    apply(conninfo, NAME)
    return conninfo


def test_what_was_there_is_kept(filled):
    with psycopg.connect(filled, autocommit=True) as database:
        assert database.execute("select * from ledger.verify()").fetchall() == []
        refused(database, "LG010", "select ledger.join_group(1, 'other', 5, address => %s)", [ADDRESS])
        assert one(database, "select number, state from ledger.get_checkpoint(1)") == (1, None)
        database.execute("select ledger.checkpoint(1)")


@pytest.mark.parametrize("more", ["", "select ledger.credit_deposit(4, 0, %s, 5, 5, '0x' || repeat('ab', 32), 1)"])
def test_is_refused_with_a_linked_group_and_changes_nothing(filled, more):
    with psycopg.connect(filled, autocommit=True) as database:
        database.execute("select ledger.create_group('linked')")
        database.execute("select ledger.link_vault(4, 1, %s)", [ADDRESS])
        if more:
            database.execute(more, [ADDRESS])
    before = fingerprint_of(filled), contents(filled)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as raised:
        roll_back(filled, NAME)
    assert raised.value.diag.message_hint
    assert (fingerprint_of(filled), contents(filled)) == before


def test_without_one_nothing_is_lost_and_the_ledger_works(filled):
    values = contents(filled)
    for table, columns in {"participants": ("address_proved", "frozen_at"), "checkpoints": ("adopted_at",)}.items():
        for row in values[table]:
            for column in columns:
                assert row.pop(column, None) is None
    roll_back(filled, NAME)
    assert lost(values, contents(filled)) == []
    with psycopg.connect(filled, autocommit=True) as database:
        refused(database, "42883", "select ledger.link_vault(1, 1, %s)", [ADDRESS])
        refused(database, "LG010", "select ledger.join_group(1, 'other', 5, address => %s)", [ADDRESS])
        proof = "select (p.checkpoint).number from ledger.get_proof(1, 1) as p"
        assert one(database, proof) == (1,)
        database.execute("select ledger.checkpoint(1, 'checkpoint')")
        assert database.execute("select * from ledger.verify()").fetchall() == []
        # The role belongs to the cluster.
        assert one(database, "select has_schema_privilege('ledger_bridge', 'ledger', 'usage')") == (False,)

    assert migrate.migrate(filled) == NAMES[NAMES.index(NAME) :]
    with psycopg.connect(filled, autocommit=True) as database:
        assert one(database, "select replayed from ledger.checkpoint(1, 'checkpoint')") == (True,)
        assert database.execute("select * from ledger.verify()").fetchall() == []


def test_a_repeatable_read_session_is_refused(filled):
    with psycopg.connect(filled) as database:
        database.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        text = (migrate.MIGRATIONS / f"{NAME}.rollback.sql").read_bytes()
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            database.execute(text)


@pytest.mark.parametrize("attribute", ["superuser", "createrole", "createdb", "replication", "bypassrls"])
def test_a_role_with_more_rights_is_refused(conninfo, attribute):
    apply_before(conninfo, NAME)
    with psycopg.connect(conninfo, autocommit=True) as database:
        database.execute(f"alter role ledger_bridge {attribute}")
    try:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="ledger_bridge"):
            apply(conninfo, NAME)
    finally:
        with psycopg.connect(conninfo, autocommit=True) as database:
            database.execute(f"alter role ledger_bridge no{attribute}")
    apply(conninfo, NAME)
