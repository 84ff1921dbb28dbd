"""A group of a million participants in the explorer: its pages, a search in it, and what arrives in it."""

import json
from collections.abc import Iterator

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from tests.conftest import Server, janitor
from tests.explorer.person import Person
from tests.http.client import Service, serving
from tests.openapi import browser
from tests.support import create_crowd, one

MANY = 1_000_000
PAGE = 50  # groups.js

NAMES = "[...document.querySelectorAll('[aria-labelledby=participants] tbody a')].map(link => link.innerText)"


@pytest.fixture(scope="module")
def api(server: Server, template: NoopExecutor) -> Iterator[Service]:
    """A service on a database of its own: the other tests read the whole of theirs."""
    with janitor(server, "ledger_large", template.template_dbname), serving(server.database("ledger_large")) as api:
        yield api


@pytest.fixture(scope="module")
def admin(api: Service) -> Iterator[psycopg.Connection]:
    with api.database.connect(api.database.admin) as connection:
        yield connection


@pytest.fixture(scope="module")
def group(admin: psycopg.Connection) -> int:
    with admin.transaction():
        # Foreign keys are looked up row by row otherwise, which takes most of the time.
        admin.execute("set local session_replication_role = replica")
        made = create_crowd(admin, MANY, "")
    admin.execute("vacuum analyze ledger.participants, ledger.entries")
    return made


def id_of(admin: psycopg.Connection, group: int, username: str) -> int:
    return one(admin, "select id from ledger.participants where group_id = %s and username = %s", [group, username])[0]


def page_from(person: Person, first: int) -> None:
    """Return once the page is shown that begins with a participant."""
    person.page.until(f"!document.querySelector('main[aria-busy]') && {NAMES}[0] === 'p{first}'")
    last = min(first + PAGE - 1, MANY)
    assert person.page.evaluate(NAMES) == [f"p{number}" for number in range(first, last + 1)]


def test_a_million_participants_are_paged_through_searched_and_kept_current(person, admin, group):
    person.opens(f"#/groups/{group}")
    for first in range(1, 5 * PAGE, PAGE):
        page_from(person, first)
        person.follows("Next page")
    person.follows("First page")
    page_from(person, 1)

    # In the middle, and at the end: the pages are as far as the ids are.
    for first in (MANY // 2 + 1, MANY - 2 * PAGE + 1):
        before = id_of(admin, group, f"p{first - 1}")
        person.opens(f"#/groups/{group}?after={before}")
        page_from(person, first)
    person.follows("Next page")
    page_from(person, MANY - PAGE + 1)
    assert "Next page" not in person.shown("main nav.pages")

    for username in ("p1", "p765432", f"p{MANY}"):
        person.opens(f"#/groups/{group}")
        wanted = id_of(admin, group, username)
        for text in (username, str(wanted)):
            person.searches(text)
            person.sees("Search: ", "h1")
            person.page.until(
                f"[...document.querySelectorAll('main td a')].some(link => link.innerText === {json.dumps(username)}"
                f" && link.hash === '#/groups/{group}/participants/{wanted}')"
            )

    person.opens(f"#/groups/{group}")
    person.sees("p1\n", "main")
    with browser.another(person.page) as page:
        other = Person(page, person.address)
        other.opens(f"#/groups/{group}/participants/{id_of(admin, group, 'p500000')}")
        other.presses("Deposit")
        other.types("Amount", "123")
        other.presses("Continue")
        other.presses("Deposit")
        other.sees("The deposit is made", "#news")
        other.sees("123 wei", ".balance")
        assert other.complaints() == []
    person.sees("123 wei", ".balance")
    person.sees("p500000", "[aria-labelledby=newest]")
