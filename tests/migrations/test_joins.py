"""Migration 0004 is rolled back only where no answer becomes unknown, and with the answers of transfers."""

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


def test_a_transfer_is_answered_as_before_the_roll_back_and_as_after_it(conninfo):
    apply_before(conninfo, NAME)
    keyed = "select t::text from ledger.transfer(1, %s, %s, %s, %s) as t"
    made = []

    def make(sender: int, recipient: int, username: str) -> None:
        with psycopg.connect(conninfo) as database:
            request = [sender, recipient, len(made) + 1, f"key {len(made)}".replace(" ", "-")]
            (answer,) = database.execute(keyed, request).fetchone()
            made.append((request, answer))
            database.execute("select ledger.rename_participant(1, %s, %s)", [sender, username])

    def repeat() -> None:
        with psycopg.connect(conninfo) as database:
            for request, answer in made:
                assert database.execute(keyed, request).fetchone() == (f"{answer.removesuffix('f)')}t)",)
            assert database.execute("select * from ledger.verify()").fetchall() == []

    with psycopg.connect(conninfo) as database:
        database.execute("select ledger.create_group('ETH')")
        database.execute("select ledger.join_group(1, 'alice', 100), ledger.join_group(1, 'bob', 100)")
    make(1, 2, "alicia")
    for _ in range(2):
        apply(conninfo, NAME)
        make(2, 1, f"robert {len(made)}")
        make(1, 2, f"alix {len(made)}")
        repeat()
        roll_back(conninfo, NAME)
        repeat()
        make(2, 1, f"bob {len(made)}")
