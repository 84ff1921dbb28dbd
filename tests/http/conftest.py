"""One `ledger serve` for the whole folder, on a database of its own; each test makes its own groups."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from tests.conftest import Server, janitor
from tests.http.client import Service, serving
from tests.support import create, discrepancies, join, one


@pytest.fixture(scope="package")
def api(server: Server, template: NoopExecutor) -> Iterator[Service]:
    with janitor(server, "ledger_http", template.template_dbname):
        database = server.database("ledger_http")
        with database.connect(database.admin) as admin:
            # Shorter time-outs than the service's own and PostgreSQL's, for tests that wait for them; and an encoding
            # that the service must not take over.
            for name, value in (("lock_timeout", "1s"), ("deadlock_timeout", "200ms"), ("client_encoding", "latin1")):
                admin.execute(f"alter role {database.service} in database ledger_http set {name} = '{value}'")
        with serving(database) as service:
            yield service
        with database.connect(database.admin) as admin:
            assert discrepancies(admin) == []


@dataclass(frozen=True)
class Group:
    """A group of a test's own, with alice and bob, who have 100 each."""

    id: int
    name: str
    alice: int
    bob: int

    @property
    def path(self) -> str:
        return f"/api/groups/{self.id}"


NUMBERS = itertools.count()


@pytest.fixture
def new_group(observer: psycopg.Connection) -> Callable[[], Group]:
    def make() -> Group:
        name = f"group {next(NUMBERS)}"
        group = create(observer, name)
        return Group(group, name, join(observer, group, "alice"), join(observer, group, "bob"))

    return make


@pytest.fixture
def group(new_group: Callable[[], Group]) -> Group:
    return new_group()


@pytest.fixture
def other(new_group: Callable[[], Group]) -> Group:
    return new_group()


@pytest.fixture(scope="package")
def observer(api: Service) -> Iterator[psycopg.Connection]:
    """The superuser's session, for tests that only read the database with it."""
    with api.database.connect(api.database.admin) as connection:
        yield connection


EVERYTHING = """
select
  array(select g::text from ledger.groups as g order by id),
  array(select p::text from ledger.participants as p order by id),
  array(select e::text from ledger.entries as e order by id),
  array(select c::text from ledger.group_total_shards as c order by group_id, slot)
"""


@pytest.fixture
def unchanged(observer: psycopg.Connection, group: Group, other: Group) -> Iterator[None]:
    """The test changes nothing in the database."""
    before = one(observer, EVERYTHING)
    yield
    assert one(observer, EVERYTHING) == before


@pytest.fixture
def admin(api: Service) -> Iterator[psycopg.Connection]:
    with api.database.connect(api.database.admin) as connection:
        yield connection
