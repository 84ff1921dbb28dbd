"""Sessions that commit for real: a checkpoint must be the first change of its transaction."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.support import Database, create


@pytest.fixture
def ledger(database: Database) -> Iterator[psycopg.Connection]:
    """The serving role; each statement commits."""
    with database.connect() as connection:
        yield connection


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    """Sees every table and every session."""
    with database.connect(database.admin) as connection:
        yield connection


@pytest.fixture
def group(ledger: psycopg.Connection) -> int:
    return create(ledger, "ETH")
