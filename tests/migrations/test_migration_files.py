"""The files of db/migrations: plain SQL, each with its roll-back, in one line of descent."""

import re

import pytest
import sqlparse

from api.postgres import migrate
from db import freeze
from tests.migrations.steps import NAMES

FILES = sorted(migrate.MIGRATIONS.iterdir())


def code(text: str) -> list[str]:
    """The statements of a script, comments left out."""
    stripped = (sqlparse.format(statement, strip_comments=True).strip() for statement in sqlparse.split(text))
    return [statement for statement in stripped if statement]


def test_names_are_numbered_without_gaps():
    assert [name.split(".")[0] for name in NAMES] == [f"{number:04}" for number in range(1, len(NAMES) + 1)]
    for name in NAMES:
        assert re.fullmatch(r"\d{4}\.[a-z0-9]+(-[a-z0-9]+)*", name)


def test_the_folder_holds_migrations_and_their_roll_backs_and_nothing_else():
    assert {file.name for file in FILES} == {f"{name}{kind}.sql" for name in NAMES for kind in ("", ".rollback")}
    assert [script.stem for script in freeze.scripts()] == NAMES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_file_has_statements(file):
    assert code(file.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_each_migration_depends_on_its_predecessor(name):
    text = (migrate.MIGRATIONS / f"{name}.sql").read_text()
    before = NAMES[: NAMES.index(name)][-1:]
    assert re.findall(r"^-- depends: (.*)$", text, re.MULTILINE) == before


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_file_limits_its_wait_for_locks_first(file):
    assert re.fullmatch(r"set local lock_timeout = '[1-9]s';", code(file.read_text())[0])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_drops_a_role_or_ends_its_transaction(file):
    forbidden = re.compile(r"^(drop (role|user|group|owned)|reassign|begin|commit|rollback|abort|end)\b", re.IGNORECASE)
    assert not [statement for statement in code(file.read_text()) if forbidden.match(statement)]
    assert "transactional:" not in file.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_drops_a_role_from_inside_a_block(file):
    assert not re.search(r"\bdrop\s+(role|user|group|owned)\b", file.read_text(), re.IGNORECASE)
