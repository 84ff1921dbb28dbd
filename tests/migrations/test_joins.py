"""Migration 0004 is rolled back only where no answer becomes unknown."""

import psycopg
import pytest

from tests.migrations.steps import apply, apply_before, roll_back

NAME = "0004.people"


@pytest.mark.parametrize("key", [None, "joins"])
def test_a_list_of_joins_with_an_idempotency_key_is_kept(conninfo, names, key):
    apply_before(conninfo, NAME)
    apply(conninfo, NAME)
    with psycopg.connect(conninfo) as database:
        database.execute("select ledger.create_group('ETH')")
        database.execute("""select ledger.join_all(1, '[{"username": "alice", "amount": 3}]', %s)""", [key])
    if key is None:
        roll_back(conninfo, NAME)
    else:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="would make their answers unknown"):
            roll_back(conninfo, NAME)
    with psycopg.connect(conninfo) as database:
        assert database.execute("select * from ledger.verify()").fetchall() == []
