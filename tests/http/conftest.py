"""One `ledger serve` for the whole folder, on a database of its own; each test makes its own groups."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from tests.conftest import Server, janitor
from tests.http.client import Service, serving
from tests.support import faults


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
            assert faults(admin) == []


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
def new_group(api: Service) -> Callable[[], Group]:
    def make() -> Group:
        name = f"group {next(NUMBERS)}"
        group = api("POST", "/api/groups", {"name": name}).data["id"]
        alice, bob = (
            api("POST", f"/api/groups/{group}/participants", {"username": username, "amount": 100}).data["id"]
            for username in ("alice", "bob")
        )
        return Group(group, name, alice, bob)

    return make


@pytest.fixture
def group(new_group: Callable[[], Group]) -> Group:
    return new_group()


@pytest.fixture
def other(new_group: Callable[[], Group]) -> Group:
    return new_group()


@pytest.fixture
def unchanged(api: Service, group: Group, other: Group) -> Iterator[None]:
    """The test changes nothing in the database."""

    def everything() -> list[tuple]:
        with api.database.connect(api.database.admin) as admin:
            return [
                admin.execute(query).fetchall()
                for query in (
                    "select * from ledger.groups order by id",
                    "select * from ledger.participants order by id",
                    "select * from ledger.entries order by id",
                    "select * from ledger.group_total_shards order by 1, 2",
                )
            ]

    before = everything()
    yield
    assert everything() == before


@pytest.fixture
def admin(api: Service) -> Iterator[psycopg.Connection]:
    with api.database.connect(api.database.admin) as connection:
        yield connection
