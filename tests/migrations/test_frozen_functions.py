"""db/functions equals the functions that the migrations have shipped."""

import psycopg
import pytest

from db import freeze
from tests.migrations.steps import fingerprint

FILES = {str(file.relative_to(freeze.FUNCTIONS).with_suffix("")): file for file in freeze.FUNCTIONS.rglob("*.sql")}


def functions(database: psycopg.Connection) -> dict[str, tuple]:
    return {row[0]: row for row in fingerprint(database)["functions"]}


def run_files(database: psycopg.Connection) -> None:
    for file in FILES.values():
        database.execute(file.read_text())


@pytest.fixture
def strict(owner: psycopg.Connection) -> psycopg.Connection:
    """The superuser with every check of PL/pgSQL on."""
    owner.execute("set local plpgsql.extra_errors = 'all'")
    owner.execute("set local plpgsql.extra_warnings = 'all'")
    owner.execute("set local check_function_bodies = on")
    return owner


@pytest.mark.parametrize("path", FILES)
def test_each_function_file_equals_its_last_frozen_text(path):
    assert FILES[path].read_text() == freeze.frozen()[path]


def test_every_frozen_function_has_a_file():
    assert freeze.frozen().keys() == FILES.keys()


def test_files_and_functions_are_the_same_set(owner):
    assert functions(owner).keys() == {freeze.name_of(path) for path in FILES}


def test_running_every_file_on_a_migrated_database_changes_nothing(strict):
    before = fingerprint(strict)
    run_files(strict)
    assert fingerprint(strict) == before


def test_the_files_alone_make_the_functions_with_owner_comment_and_grants(strict):
    before = functions(strict)
    for path in FILES:
        strict.execute(f"drop function {freeze.qualified_name(path)} cascade")
    assert functions(strict) == {}
    # Functions may call each other in any order; the second time every body is checked.
    strict.execute("set local check_function_bodies = off")
    run_files(strict)
    strict.execute("set local check_function_bodies = on")
    run_files(strict)
    assert functions(strict) == before


def test_a_file_raises_no_warning(strict):
    notices = []
    strict.add_notice_handler(lambda notice: notices.append(notice.message_primary))
    run_files(strict)
    assert notices == []
