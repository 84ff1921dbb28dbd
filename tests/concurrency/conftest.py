"""Sessions that commit for real, and calls that overlap: one holds a lock while another waits.

A client repeats a call that failed with 40001 or 40P01, since nothing was done; so do these tests above READ
COMMITTED, and every rule has the same outcome at each isolation level.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import IsolationLevel

from tests.support import Database, call, create, in_background, join, wait_until_blocked

DONE = "done"
NOTHING_DONE = {"40001", "40P01"}


@pytest.fixture(params=list(IsolationLevel)[1:], ids=lambda level: level.name.lower())
def level(request: pytest.FixtureRequest) -> IsolationLevel:
    return request.param


@pytest.fixture
def session(database: Database) -> Iterator[Callable[..., psycopg.Connection]]:
    """Open another session, without autocommit."""
    with ExitStack() as sessions:

        def begin(level: IsolationLevel = IsolationLevel.READ_COMMITTED, role: str | None = None) -> psycopg.Connection:
            connection = database.connect(role, autocommit=False)
            sessions.callback(connection.close)
            connection.isolation_level = level
            # A wait that never ends fails.
            connection.execute("set lock_timeout = '20s'")
            connection.commit()
            return connection

        yield begin


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    """Sees every table and every session."""
    with database.connect(database.admin) as connection:
        yield connection


@pytest.fixture
def ledger(database: Database) -> Iterator[psycopg.Connection]:
    """The serving role; each statement commits."""
    with database.connect() as connection:
        yield connection


@pytest.fixture(autouse=True)
def neighbour(ledger: psycopg.Connection) -> int:
    group = create(ledger, "Neighbour")
    join(ledger, group, "alice")
    return group


@pytest.fixture
def group(ledger: psycopg.Connection) -> int:
    return create(ledger, "ETH")


@pytest.fixture
def alice(ledger: psycopg.Connection, group: int) -> int:
    return join(ledger, group, "alice")


@pytest.fixture
def bob(ledger: psycopg.Connection, alice: int, group: int) -> int:
    return join(ledger, group, "bob")


@pytest.fixture
def attempt() -> Callable[..., str]:
    """Call a function and commit, again while nothing is done; "done", or the SQLSTATE of the refusal."""

    def attempt(connection: psycopg.Connection, function: str, *arguments: object) -> str:
        while True:
            try:
                call(connection, function, *arguments)
                connection.commit()
            except psycopg.Error as error:
                connection.rollback()
                if error.sqlstate in NOTHING_DONE and connection.isolation_level != IsolationLevel.READ_COMMITTED:
                    continue
                return error.sqlstate
            return DONE

    return attempt


@pytest.fixture
def overlap(admin: psycopg.Connection, attempt: Callable[..., str]) -> Callable[..., str]:
    """Make a second call wait for an open first one, end the first, and return the second's outcome."""

    def overlap(
        first: psycopg.Connection,
        first_call: tuple,
        second: psycopg.Connection,
        second_call: tuple,
        *,
        commits: bool = True,
    ) -> str:
        call(first, *first_call)
        with in_background(lambda: attempt(second, *second_call)) as outcome:
            try:
                wait_until_blocked(admin, second)
            finally:
                (first.commit if commits else first.rollback)()
        return outcome[0]

    return overlap
