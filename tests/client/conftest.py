"""One `ledger serve` for the whole folder, on a database of its own, and clients of it; each test makes its groups."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_postgresql.executors import NoopExecutor

from ledger_client import Client, FilePlace, Group, MemoryPlace, Participant
from tests.conftest import Server, janitor
from tests.http.client import Service, serving
from tests.support import discrepancies

NUMBERS = itertools.count()


@pytest.fixture(scope="package")
def service(server: Server, template: NoopExecutor) -> Iterator[Service]:
    with janitor(server, "ledger_client", template.template_dbname):
        database = server.database("ledger_client")
        with serving(database) as service:
            yield service
        with database.connect(database.admin) as admin:
            assert discrepancies(admin) == []


@pytest.fixture(scope="package")
def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def group(client: Client) -> Group:
    return client.create_group(f"group {next(NUMBERS)}")


@pytest.fixture
def alice(client: Client, group: Group) -> Participant:
    return client.join_group(group.id, "alice", 100)


@pytest.fixture
def bob(client: Client, group: Group) -> Participant:
    return client.join_group(group.id, "bob", 100)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def now(client: Client, file: Path) -> FilePlace:
    """The place behind what the feed has so far."""
    place = MemoryPlace()
    for _ in client.feed(place, follow=False):
        pass
    if place.place:
        file.write_text(place.place)
    return FilePlace(file)
