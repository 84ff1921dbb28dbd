"""One `ledger serve` for the folder, open to everybody, and one browser, with a person in front of it."""

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from tests.conftest import Server, janitor
from tests.explorer.person import Person
from tests.http.client import Service, serving
from tests.openapi import browser
from tests.support import create, discrepancies, join

NUMBERS = itertools.count(1)


@pytest.fixture(scope="package")
def api(server: Server, template: NoopExecutor) -> Iterator[Service]:
    with janitor(server, "ledger_explorer", template.template_dbname):
        database = server.database("ledger_explorer")
        with serving(database) as service:
            yield service
        with database.connect(database.admin) as admin:
            assert discrepancies(admin) == []


@pytest.fixture(scope="package")
def admin(api: Service) -> Iterator[psycopg.Connection]:
    with api.database.connect(api.database.admin) as connection:
        yield connection


@pytest.fixture(scope="package")
def chromium() -> Iterator[browser.Page]:
    if browser.CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="chromium-") as profile, browser.page(Path(profile)) as page:
        yield page


@pytest.fixture
def person(api: Service, chromium: browser.Page) -> Iterator[Person]:
    """They see no complaint of the browser, and what they open asks no other host for anything."""
    chromium.requested.clear()
    chromium.complaints.clear()
    person = Person(chromium, f"http://127.0.0.1:{api.port}")
    yield person
    assert person.complaints() == []
    asked = [each for each in chromium.requested if not each.startswith(("about:", "blob:", "data:"))]
    assert asked
    assert [each for each in asked if not each.startswith(f"{person.address}/")] == []
    person.page("Page.navigate", url=person.address)  # storage belongs to an origin
    person.page.until("document.querySelector('main')")
    person.page.evaluate("sessionStorage.clear()")
    person.page.evaluate("localStorage.clear()")
    person.page("Page.navigate", url="about:blank")  # a page goes on asking its service, and the next test's is another
    person.page.until("location.href === 'about:blank'")


@pytest.fixture
def group(admin: psycopg.Connection) -> dict[str, int]:
    """A group of a test's own with Vitalik and Vlad, who have 100 each: its id and theirs."""
    made = create(admin, f"Foundation {next(NUMBERS)}")
    return {"id": made, "Vitalik": join(admin, made, "Vitalik"), "Vlad": join(admin, made, "Vlad")}
