"""Each migration can be undone and applied again, on an empty ledger and with money in it."""

from collections.abc import Callable

import psycopg
import pytest

from api.postgres import migrate
from tests.migrations.steps import (
    EXAMPLE,
    NAMES,
    apply,
    apply_before,
    contents,
    fingerprint_of,
    lost,
    marked,
    put_data_in,
    roll_back,
    run,
)

pytestmark = pytest.mark.parametrize("name", [*NAMES, EXAMPLE])


@pytest.fixture(autouse=True)
def before(conninfo: str, names: list[str], name: str) -> list[str]:
    """Apply every migration before the one that the test is about; return their names."""
    apply_before(conninfo, name)
    return names[: names.index(name)]


def refusal_of(call: Callable[[], object]) -> psycopg.errors.Diagnostic | None:
    try:
        call()
    except psycopg.Error as error:
        return error.diag
    return None


def roles(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as database:
        return {row[0] for row in database.execute("select rolname from pg_roles where rolname ~ '^ledger_'")}


def test_on_an_empty_ledger_the_schema_is_as_before_and_can_be_applied_again(conninfo, before, name):
    schema = fingerprint_of(conninfo)
    apply(conninfo, name)
    after = fingerprint_of(conninfo)
    assert after != schema

    roll_back(conninfo, name)
    assert fingerprint_of(conninfo) == schema
    assert marked(conninfo) == before
    assert roles(conninfo) >= {"ledger_owner", "ledger_api", "ledger_bridge", "ledger_reader"}

    apply(conninfo, name)
    assert fingerprint_of(conninfo) == after


def test_with_money_in_the_tables_no_value_is_lost_or_nothing_changes(conninfo, name):
    apply(conninfo, name)
    put_data_in(conninfo)
    schema, values, marks = fingerprint_of(conninfo), contents(conninfo), marked(conninfo)
    assert len(values["entries"]) == 18
    refusal = refusal_of(lambda: roll_back(conninfo, name))
    if refusal:
        assert refusal.message_hint
        assert (fingerprint_of(conninfo), contents(conninfo), marked(conninfo)) == (schema, values, marks)
    else:
        assert lost(values, contents(conninfo)) == []
        apply(conninfo, name)
        assert lost(values, contents(conninfo)) == []
        assert fingerprint_of(conninfo) == schema


def test_a_run_killed_before_the_mark_can_apply_again(conninfo, name):
    run(conninfo, name, "apply")
    once = fingerprint_of(conninfo)
    put_data_in(conninfo)
    values = contents(conninfo)
    run(conninfo, name, "apply")
    assert fingerprint_of(conninfo) == once
    assert contents(conninfo) == values


def test_a_roll_back_killed_before_the_mark_can_run_again(conninfo, names, name):
    apply(conninfo, name)
    run(conninfo, name, "rollback")
    once = fingerprint_of(conninfo)
    run(conninfo, name, "rollback")
    assert fingerprint_of(conninfo) == once
    roll_back(conninfo, name)
    migrate.migrate(conninfo)
    assert marked(conninfo) == names
