"""The demo groups of seeds/: their content, and that a second run changes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import pytest

from api.admin.seed import SEEDS, seed
from api.postgres import embedded
from tests.support import Database, call, create, join, transfer

DEMO = {
    "Ethereum Foundation": ["Vitalik", "Vlad", "Gavin", "Danny"],
    "ConsenSys": ["Joe", "Dudley", "Kevin"],
}
TABLES = ("groups", "participants", "entries", "group_total_shards")


def by_psql(conninfo: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    for file in sorted(SEEDS.glob("*.sql")):
        command = [embedded.binaries() / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-f", file, conninfo]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


LOADERS = {"ledger seed": seed, "psql -f": by_psql}
loaders = pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)


def content(database: Database) -> dict[str, list[tuple]]:
    """Every row of every table."""
    with database.connect(database.admin) as admin:
        return {
            table: admin.execute(f"select * from ledger.{table} as t order by t".encode()).fetchall()
            for table in TABLES
        }


def participants(database: Database) -> dict[str, list[tuple[str, int]]]:
    """The usernames and amounts of each group, in the order of their ids."""
    with database.connect() as service:
        return {
            name: [(username, amount) for username, _, _, amount in call(service, "list_participants", group)]
            for name, group in call(service, "list_groups")
        }


@loaders
def test_the_service_may_load_the_demo_groups(load: Callable[[str], None], database: Database) -> None:
    # It has no right on any table, so all goes through the functions.
    load(database.url(database.service))
    assert participants(database) == {name: [(username, 100) for username in names] for name, names in DEMO.items()}
    with database.connect() as service:
        assert [call(service, "group_total", group) for _, group in call(service, "list_groups")] == [
            [(400,)],
            [(300,)],
        ]
    kinds = [row[2] for row in content(database)["entries"]]
    assert kinds == ["join"] * 7


@loaders
def test_a_second_run_changes_nothing(load: Callable[[str], None], database: Database) -> None:
    seed(database.url(database.service))
    before = content(database)
    load(database.url(database.service))
    assert content(database) == before


@loaders
def test_a_second_run_keeps_later_changes(load: Callable[[str], None], database: Database) -> None:
    seed(database.url(database.service))
    with database.connect() as service:
        (_, group), _ = call(service, "list_groups")
        first, second, third = [row[1] for row in call(service, "list_participants", group)][:3]
        transfer(service, group, first, second, 30)
        call(service, "exit_group", group, third)
    before = content(database)
    load(database.url(database.service))
    assert content(database) == before


@loaders
def test_a_group_of_that_name_keeps_its_participants(load: Callable[[str], None], database: Database) -> None:
    with database.connect() as service:
        join(service, create(service, "ConsenSys"), "mallory", 7)
    load(database.url(database.service))
    found = participants(database)
    assert found["ConsenSys"] == [("mallory", 7)]
    assert [username for username, _ in found["Ethereum Foundation"]] == DEMO["Ethereum Foundation"]
