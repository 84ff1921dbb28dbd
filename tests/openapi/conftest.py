"""One `ledger serve` for the folder, which asks for an API key, on a database of its own."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pytest_postgresql.executors import NoopExecutor

from api.resources import OPENAPI
from tests.conftest import Server, janitor
from tests.http.client import Service, serving
from tests.support import discrepancies, one


@pytest.fixture(scope="package")
def api(server: Server, template: NoopExecutor) -> Iterator[Service]:
    with janitor(server, "ledger_openapi", template.template_dbname):
        database = server.database("ledger_openapi")
        with database.connect(database.admin) as admin:
            (secret,) = one(admin, "select secret from ledger.create_api_key('tests', 'admin')")
        with serving(database) as service:
            yield replace(service, secret=secret)
        with database.connect(database.admin) as admin:
            assert discrepancies(admin) == []


@pytest.fixture(scope="package")
def described() -> dict:
    return json.loads(OPENAPI.read_bytes())
