"""What the tests of migrations share: an empty database, and a migration that follows the shipped ones."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded, migrate
from chaos.release import add_migration
from tests.conftest import Server, cloned
from tests.migrations.steps import fingerprint_of
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


@pytest.fixture
def complete(server: Server, template: object, cloning: psycopg.Connection) -> Iterator[dict[str, list[tuple]]]:
    """The fingerprint of a database on which every migration ran undisturbed."""
    with cloned(cloning, "ledger_complete", "template1"):
        conninfo = server.database("ledger_complete").url(embedded.ADMIN)
        migrate.migrate(conninfo)
        yield fingerprint_of(conninfo)
