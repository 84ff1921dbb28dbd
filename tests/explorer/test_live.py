"""What is open stays current by the feed: by which requests, where it may not be read, and in many windows."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.explorer.person import Person
from tests.http.client import serving
from tests.openapi import browser
from tests.support import Database, call, create, join, one, transfer, until

QUIET = 3  # seconds, in which a page that asks every two asks
PAGE = 200  # live.js
WAITING = 3  # live.js

# Before the page's own scripts: the requests that wait, and whether the window is hidden.
WATCHED = """
window.waits = 0;
const send = window.fetch;
window.fetch = async (path, given) => {
  if (!String(path).includes("wait=")) return send(path, given);
  window.waits++;
  try { return await send(path, given); } finally { window.waits--; }
};
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.hide = (whether) => { hidden = whether; document.dispatchEvent(new Event("visibilitychange")); };
"""


@pytest.fixture
def person(person: Person) -> Iterator[Person]:
    added = person.page("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
    yield person
    person.page("Page.removeScriptToEvaluateOnNewDocument", identifier=added["identifier"])


def requests(person: Person) -> list[str]:
    """The paths of all requests so far."""
    person.page.evaluate("0")
    return [each.removeprefix(person.address) for each in person.page.requested]


def becomes_quiet(person: Person) -> int:
    """Return once the feed waits and nothing else has been asked for in a while: the number of requests until then."""
    last = (0, time.monotonic())

    def is_quiet() -> bool:
        nonlocal last
        if (count := len(requests(person))) != last[0]:
            last = (count, time.monotonic())
        return time.monotonic() > last[1] + QUIET and person.page.evaluate("window.waits") == 1

    until(is_quiet, "the page to be quiet")
    return last[0]


def of_the_feed(paths: list[str]) -> list[bool]:
    return [path.startswith("/api/entries") for path in paths]


@pytest.mark.parametrize("view", ["groups", "group", "participant"])
def test_what_happens_arrives_by_the_feed_and_no_view_is_polled(person, admin, group, view):
    address = {"groups": "#/", "group": f"#/groups/{group['id']}"}
    person.opens(address.get(view, f"#/groups/{group['id']}/participants/{group['Vitalik']}"))
    asked = becomes_quiet(person)
    one(admin, "select id from ledger.deposit(%s, %s, 1234567)", [group["id"], group["Vitalik"]])
    total = {"groups": "1 234 767", "group": "1 234 767", "participant": "1 234 667"}[view]
    person.sees(total, "main")
    news = requests(person)[asked:]
    assert not all(of_the_feed(news))
    assert person.page.evaluate("document.querySelector('tr.fresh') !== null") == (view != "groups")


def test_entries_of_others_do_not_have_a_group_read_again(person, admin, group):
    other = create(admin, f"busy {group['id']}")
    alice, bob = join(admin, other, "alice", 1000), join(admin, other, "bob")
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}")
    asked = becomes_quiet(person)
    another = join(admin, group["id"], "another")
    for _ in range(2):
        transfer(admin, other, alice, bob, 1)
        transfer(admin, group["id"], group["Vlad"], another, 1)
        becomes_quiet(person)
    news = requests(person)[asked:]
    assert len(news) >= 2
    assert all(of_the_feed(news)), news


def test_a_busy_group_is_read_again_every_two_seconds_at_most(person, admin, group):
    person.opens(f"#/groups/{group['id']}")
    asked = becomes_quiet(person)
    began = time.monotonic()
    for _ in range(30):
        transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 1)
        time.sleep(0.15)
    person.sees("130", "main")
    looks = [path for path in requests(person)[asked:] if path.endswith("/total")]
    assert 1 < len(looks) <= (time.monotonic() - began) / 2 + 1


def test_an_entry_behind_more_than_a_page_of_others_is_not_lost(person, admin, group):
    other = create(admin, f"busier {group['id']}")
    alice, bob = join(admin, other, "alice", 1000), join(admin, other, "bob")
    person.opens(f"#/groups/{group['id']}")
    becomes_quiet(person)
    lines = json.dumps([{"from": alice, "to": bob, "amount": 1}] * 2 * PAGE)
    with admin.transaction():
        one(admin, "select entries from ledger.transfer_all(%s, %s)", [other, lines])
        transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 77)
    person.sees("Vlad\n\t{}\t177".format(group["Vlad"]), "main")


def test_a_window_that_is_hidden_or_shows_something_else_does_not_wait(person, admin, group):
    person.opens(f"#/groups/{group['id']}")
    person.page.until("window.waits === 1")
    person.page.evaluate("window.hide(true)")
    person.page.until("window.waits === 0")
    transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 41)
    asked = len(requests(person))
    time.sleep(QUIET)
    assert requests(person)[asked:] == []
    person.page.evaluate("window.hide(false)")
    person.sees("141", "main")
    person.page.until("window.waits === 1")
    person.follows("Checkpoints")
    person.is_at(f"#/groups/{group['id']}/checkpoints")
    person.page.until("window.waits === 0")


def test_only_some_windows_wait_and_all_stay_current(person, admin, group):
    with ExitStack() as windows:
        others = [Person(windows.enter_context(browser.another(person.page)), person.address) for _ in range(WAITING)]
        everybody = [person, *others]
        for each in others:
            each.page("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
        for each in everybody:
            each.opens(f"#/groups/{group['id']}")

        def waiting() -> list[Person]:
            return [each for each in everybody if each.page.evaluate("window.waits")]

        until(lambda: len(waiting()) == WAITING, "as many windows to wait as may")
        transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 13)
        for each in everybody:
            each.sees("113", "main")
        until(lambda: len(waiting()) == WAITING, "as many windows to wait as may")
        (polling,) = [each for each in everybody if each not in waiting()]
        next(each for each in waiting() if each is not polling).page.evaluate("window.hide(true)")
        until(lambda: polling in waiting(), "the other one to wait instead")
        assert not any(each.complaints() for each in others)


def test_with_an_api_key_for_one_group_the_page_asks_again(chromium, database: Database):
    with database.connect(database.admin) as admin:
        group = create(admin, "Own")
        vitalik, vlad = join(admin, group, "Vitalik"), join(admin, group, "Vlad")
        (secret,) = one(admin, "select secret from ledger.create_api_key('own', 'read', %s)", [group])
        with serving(database) as service, browser.another(chromium) as page:
            person = Person(page, f"http://127.0.0.1:{service.port}")
            person.opens(f"#/groups/{group}")
            person.types("API key", secret)
            person.presses("Use it")
            person.sees("Vitalik", "main")
            transfer(admin, group, vitalik, vlad, 5)
            person.sees("105", "main")
            person.follows("Vlad")
            person.sees("105 wei", ".balance")
            transfer(admin, group, vitalik, vlad, 5)
            person.sees("110 wei", ".balance")
            assert [path for path in requests(person) if path.startswith("/api/entries")] == ["/api/entries/end"]
            assert person.complaints() == []


def test_a_revoked_api_key_is_noticed_by_a_window_that_waits(chromium, database: Database):
    with database.connect(database.admin) as admin:
        group = create(admin, "Guarded")
        join(admin, group, "Vitalik")
        key, secret = one(admin, "select id, secret from ledger.create_api_key('reader', 'read')")
        with serving(database) as service, browser.another(chromium) as page:
            page("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
            person = Person(page, f"http://127.0.0.1:{service.port}")
            person.opens(f"#/groups/{group}")
            person.types("API key", secret)
            person.presses("Use it")
            person.sees("Vitalik", "main")
            person.page.until("window.waits === 1")
            call(admin, "revoke_api_key", key)
            person.sees("not valid, or was revoked", "main")
            person.page.until("window.waits === 0")
            assert "Vitalik" not in person.shown("main")
            (other,) = one(admin, "select secret from ledger.create_api_key('another', 'read')")
            person.types("API key", other)
            person.presses("Use it")
            person.sees("Vitalik", "main")
            assert person.complaints() == []


def test_a_feed_that_was_restarted_is_followed_from_its_new_end(chromium, database: Database):
    with database.connect(database.admin) as admin:
        group = create(admin, "Restored")
        vitalik, vlad = join(admin, group, "Vitalik"), join(admin, group, "Vlad")
        with serving(database) as service, browser.another(chromium) as page:
            page("Page.addScriptToEvaluateOnNewDocument", source=WATCHED)
            person = Person(page, f"http://127.0.0.1:{service.port}")
            person.opens(f"#/groups/{group}")
            person.page.until("window.waits === 1")
            one(admin, "select ledger.restart_feed()")
            transfer(admin, group, vitalik, vlad, 5)
            person.sees("105", "main")
            person.page.until("window.waits === 1")
            ends = [path for path in requests(person) if path == "/api/entries/end"]
            assert len(ends) == 2
            transfer(admin, group, vitalik, vlad, 5)
            person.sees("110", "main")
            assert person.complaints() == []
