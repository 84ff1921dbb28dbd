"""Fixtures of the tests of migrations: an empty database, and a migration that follows the shipped ones."""

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded, migrate, upgrade
from chaos.release import add_migration
from tests.conftest import Server, cloned
from tests.migrations.steps import RELEASE_0_1, fingerprint_of, put_data_in
from tests.support import Database


@pytest.fixture
def conninfo(template, empty: Database) -> str:
    return empty.url(embedded.ADMIN)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the shipped migrations and an example that follows them, which `migrate` applies in this test."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder)
    add_migration(folder)
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)
    return [migration.id for migration in migrate.shipped()]


@pytest.fixture(scope="session")
def migrated_once(server: Server, template: object, cloning: psycopg.Connection) -> Iterator[str]:
    """The name of a database to which every migration was applied."""
    with cloned(cloning, "ledger_migrated"):
        migrate.migrate(server.database("ledger_migrated").url(embedded.ADMIN))
        yield "ledger_migrated"


@pytest.fixture
def migrated(server: Server, cloning: psycopg.Connection, migrated_once: str) -> Iterator[Database]:
    """A copy of that database: several times quicker than to migrate an empty one."""
    with cloned(cloning, "ledger_copy", migrated_once):
        yield server.database("ledger_copy")


@pytest.fixture(scope="session")
def fingerprints() -> dict[str, dict[str, list[tuple]]]:
    """The results of `complete`, by the migrations that ran."""
    return {}


@pytest.fixture
def complete(
    server: Server, template: object, cloning: psycopg.Connection, fingerprints: dict[str, dict[str, list[tuple]]]
) -> dict[str, list[tuple]]:
    """The fingerprint of a database on which every migration ran undisturbed."""
    migrations = "".join(path.read_text() for path in sorted(migrate.MIGRATIONS.glob("*.sql")))
    if migrations not in fingerprints:
        with cloned(cloning, "ledger_complete"):
            conninfo = server.database("ledger_complete").url(embedded.ADMIN)
            migrate.migrate(conninfo)
            fingerprints[migrations] = fingerprint_of(conninfo)
    return copy.deepcopy(fingerprints[migrations])


@pytest.fixture(scope="session")
def release_0_1(server: Server, template: object, cloning: psycopg.Connection) -> Iterator[str]:
    """The name of a database of release 0.1, filled by its own functions."""
    with cloned(cloning, "ledger_release_0_1"), pytest.MonkeyPatch.context() as patch:
        conninfo = server.database("ledger_release_0_1").url(embedded.ADMIN)
        patch.setattr(migrate, "MIGRATIONS", RELEASE_0_1)
        assert migrate.migrate(conninfo) == upgrade.REPLACED
        put_data_in(conninfo)
        patch.undo()
        yield "ledger_release_0_1"


@pytest.fixture
def old(server: Server, cloning: psycopg.Connection, release_0_1: str) -> Iterator[str]:
    """A copy of that database."""
    with cloned(cloning, "ledger_old", release_0_1):
        yield server.database("ledger_old").url(embedded.ADMIN)
