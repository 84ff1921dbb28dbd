"""yoyo's own command in the repository's root, with nothing but libpq's variables or -d."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from api.postgres import migrate
from tests.migrations.steps import NAMES, ROOT, contents, fingerprint_of, locks, marked, put_data_in
from tests.running import preloaded
from tests.running.commands import environment

YOYO = Path(sys.executable).parent / "yoyo"


@pytest.fixture
def variables(conninfo: str) -> dict[str, str]:
    """The environment that names the database to libpq, without other settings of the tests."""
    info = psycopg.conninfo.conninfo_to_dict(conninfo)
    names = {"PGHOST": "host", "PGPORT": "port", "PGUSER": "user", "PGDATABASE": "dbname"}
    return environment(**{variable: str(info[name]) for variable, name in names.items()})


def yoyo(variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run([str(YOYO), *arguments], variables, str(ROOT), "", 60)


def listed(output: str) -> list[tuple[str, str]]:
    rows = [line.split() for line in output.splitlines()]
    return [(row[0], row[1]) for row in rows if len(row) > 1 and row[1] in NAMES]


def test_applies_lists_and_rolls_back(variables, conninfo, shared):
    applied = yoyo(variables, "apply")
    assert applied.returncode == 0, applied.stderr
    assert listed(yoyo(variables, "list").stdout) == [("A", name) for name in NAMES]
    assert fingerprint_of(conninfo) == fingerprint_of(shared.url(shared.admin))

    assert yoyo(variables, "rollback").returncode == 0
    assert listed(yoyo(variables, "list").stdout) == [*(("A", name) for name in NAMES[:-1]), ("U", NAMES[-1])]

    rolled_back = yoyo(variables, "rollback", "--all")
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert not any(fingerprint_of(conninfo).values())
    assert (marked(conninfo), locks(conninfo)) == ([], 0)


def test_finds_the_database_by_an_option_too(conninfo):
    variables = environment()
    option = ["-d", conninfo.replace("postgresql://", "postgresql+psycopg://")]
    assert listed(yoyo(variables, "list", *option).stdout) == [("U", name) for name in NAMES]
    assert yoyo(variables, "apply", *option).returncode == 0
    assert marked(conninfo) == NAMES


def test_rolls_back_to_a_revision_with_all_that_depends_on_it(variables, conninfo):
    migrate.migrate(conninfo)
    assert yoyo(variables, "rollback", "-r", NAMES[0]).returncode == 0
    assert marked(conninfo) == []


def test_does_not_roll_a_ledger_with_money_back(variables, conninfo):
    migrate.migrate(conninfo)
    put_data_in(conninfo)
    values = contents(conninfo)
    refused = yoyo(variables, "rollback", "--all")
    assert refused.returncode != 0
    assert "HINT:" in refused.stderr
    # What was empty went; no value did.
    assert NAMES[0] in marked(conninfo)
    assert locks(conninfo) == 0
    assert yoyo(variables, "apply").returncode == 0
    assert contents(conninfo) == values
    assert marked(conninfo) == NAMES
