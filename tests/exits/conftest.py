"""Sessions that commit for real, since a checkpoint must be the first change of its transaction."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.support import Database, create, one


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


@pytest.fixture
def checkpoint(ledger: psycopg.Connection, group: int) -> Callable[..., dict]:
    """Make a checkpoint of the group."""

    def make(key: str | None = None) -> dict:
        return one(ledger, "select to_json(c) from ledger.checkpoint(%s, %s) as c", [group, key])[0]

    return make


@pytest.fixture
def leaves(ledger: psycopg.Connection, group: int) -> Callable[..., list[dict]]:
    """The leaves of a checkpoint of the group."""

    def read(number: int, after: int | None = 0, limit: int | None = 1000) -> list[dict]:
        query = "select to_json(l) from ledger.list_leaves(%s, %s, %s, %s) as l"
        return [leaf for (leaf,) in ledger.execute(query, [group, number, after, limit])]

    return read


@pytest.fixture
def proof(ledger: psycopg.Connection, group: int) -> Callable[..., dict]:
    """The proof of a participant's leaf, as the web layer answers it."""

    def get(participant: int, number: int | None = None) -> dict:
        return one(ledger, "select to_json(p) from ledger.get_proof(%s, %s, %s) as p", [group, participant, number])[0]

    return get


@pytest.fixture
def drop(admin: psycopg.Connection, group: int) -> Callable[..., int]:
    """Delete the leaves of the group's checkpoints but the newest ones."""

    def call(keep: int = 1) -> int:
        admin.execute("set role ledger_owner")
        (dropped,) = one(admin, "select ledger.drop_checkpoint_chunks(%s, %s)", [group, keep])
        admin.execute("reset role")
        return dropped

    return call


@pytest.fixture
def discrepancies(admin: psycopg.Connection) -> Callable[[], list[str]]:
    """What ledger.verify finds."""

    def find() -> list[str]:
        return [f"{kind}: {detail}" for kind, detail in admin.execute("select kind, detail from ledger.verify()")]

    return find


def tamper(admin: psycopg.Connection, statement: str) -> None:
    """Change what nobody may change."""
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")
        admin.execute(statement.encode())
