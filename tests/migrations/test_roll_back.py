"""Each migration can be undone and applied again, on an empty ledger and with money in it."""

from collections.abc import Callable, Iterator
from functools import cache

import psycopg
import pytest

from api import embedded, migrate
from tests.conftest import Server, janitor
from tests.migrations.steps import (
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

pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="session")
def before(server: Server, template: object) -> Callable[[str], str]:
    """Return the name of a database with every migration that comes before one; each is made once."""

    @cache
    def made_before(name: str) -> str:
        place = NAMES.index(name)
        database = f"ledger_before_{place + 1}"
        with server.database("postgres").connect(embedded.ADMIN) as admin:
            origin = made_before(NAMES[place - 1]) if place else "template1"
            admin.execute(f"create database {database} template {origin}")
        conninfo = server.database(database).url(embedded.ADMIN)
        if place:
            apply(conninfo, NAMES[place - 1])
        else:
            apply_before(conninfo, name)
        return database

    return made_before


@pytest.fixture
def conninfo(server: Server, before: Callable[[str], str], name: str) -> Iterator[str]:
    """A database of the test's own with every migration that comes before the one it is about."""
    with janitor(server, "ledger_migrated", before(name)):
        yield server.database("ledger_migrated").url(embedded.ADMIN)


def refusal_of(call: Callable[[], object]) -> psycopg.errors.Diagnostic | None:
    try:
        call()
    except psycopg.Error as error:
        return error.diag
    return None


def roles(conninfo: str) -> set[str]:
    with psycopg.connect(conninfo) as database:
        return {row[0] for row in database.execute("select rolname from pg_roles where rolname ~ '^ledger_'")}


def test_on_an_empty_ledger_the_schema_is_as_before_and_can_be_applied_again(conninfo, name):
    before = fingerprint_of(conninfo)
    apply(conninfo, name)
    after = fingerprint_of(conninfo)
    assert after != before

    roll_back(conninfo, name)
    assert fingerprint_of(conninfo) == before
    assert marked(conninfo) == NAMES[: NAMES.index(name)]
    assert roles(conninfo) >= {"ledger_owner", "ledger_api", "ledger_reader"}

    apply(conninfo, name)
    assert fingerprint_of(conninfo) == after


def test_with_money_in_the_tables_no_value_is_lost_or_nothing_changes(conninfo, name):
    apply(conninfo, name)
    put_data_in(conninfo)
    schema, values, marks = fingerprint_of(conninfo), contents(conninfo), marked(conninfo)
    assert len(values["entries"]) in (10, 12, 18)  # with keys two more, with multi-party transfers and reversals six
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


def test_a_roll_back_killed_before_the_mark_can_run_again(conninfo, name):
    apply(conninfo, name)
    run(conninfo, name, "rollback")
    once = fingerprint_of(conninfo)
    run(conninfo, name, "rollback")
    assert fingerprint_of(conninfo) == once
    roll_back(conninfo, name)
    migrate.migrate(conninfo)
    assert marked(conninfo) == NAMES
