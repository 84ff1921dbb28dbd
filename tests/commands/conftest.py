"""One `ledger serve` for a module, on a database of its own, and commands that use it."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from pytest_postgresql.executors import NoopExecutor

from tests.conftest import Server, janitor
from tests.http.client import Service, serving
from tests.running.commands import command
from tests.support import discrepancies

NUMBERS = itertools.count()

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def service(server: Server, template: NoopExecutor) -> Iterator[Service]:
    with janitor(server, "ledger_commands", template.template_dbname):
        database = server.database("ledger_commands")
        with serving(database) as service:
            yield service
        with database.connect(database.admin) as admin:
            assert discrepancies(admin) == []


@pytest.fixture(scope="module")
def ledger(service: Service) -> Run:
    """Runs `ledger` against the service."""

    def run(*words: object, **settings: str) -> subprocess.CompletedProcess[str]:
        settings = {"LEDGER_URL": f"http://127.0.0.1:{service.port}"} | settings
        result = command(*map(str, words), **settings)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


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


@pytest.fixture
def group(service: Service) -> Group:
    name = f"group {next(NUMBERS)}"
    made = service("POST", "/api/groups", {"name": name}).data["id"]
    ids = [
        service("POST", f"/api/groups/{made}/participants", {"username": username, "amount": 100}).data["id"]
        for username in ("alice", "bob")
    ]
    return Group(made, name, *ids)
