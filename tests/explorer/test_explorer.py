"""The explorer in a browser: what a person finds, and what their actions do to the ledger."""

import json

from tests.explorer.person import Person, entries
from tests.http.client import serving
from tests.openapi import browser
from tests.support import Database, balance, create, join, one, transfer

HIGHEST = (1 << 256) - 1
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "'; touch oops; echo '",
    "שלום עולם",
    "W" * 255,
    "﷽" * 255,
    "../../../health?x#y",
)


def test_from_an_empty_ledger_to_a_transfer_that_arrives_in_another_window(chromium, database: Database):
    with serving(database) as service, browser.another(chromium) as first, browser.another(first) as second:
        person, other = (Person(page, f"http://127.0.0.1:{service.port}") for page in (first, second))
        person.opens()
        person.sees("This ledger is empty", "main")
        person.presses("Load the demo groups")
        person.sees("The demo groups are there", "#news")
        person.follows("Ethereum Foundation")
        person.follows("Vitalik")
        person.sees("100 wei", ".balance")
        person.sees("+100", "main table")

        other.opens("#/groups/1")
        other.sees("Vlad\n\t2\t100", "main")
        other.page.evaluate("window.same = true")

        person.presses("Send")
        person.types("To", "Vlad")
        person.types("Amount", "5")
        person.presses("Continue")
        person.sees("Send 5 wei from Vitalik (1) to Vlad (2).", "dialog")
        person.presses("Send")
        person.sees("Sent 5 wei from Vitalik to Vlad: entry", "#news")
        person.sees("95 wei", ".balance")
        person.sees("−5", "main table")
        person.follows("Vlad")
        person.sees("105 wei", ".balance")

        other.sees("Vlad\n\t2\t105", "main")
        other.sees("Vitalik\n\t1\t95", "main")
        other.sees("transfer", "main")
        assert other.page.evaluate("window.same"), "the other window was loaded again"
        assert person.complaints() == other.complaints() == []
        with database.connect(database.admin) as admin:
            assert entries(admin, 1)[-1] == ("transfer", 1, 2, 5)


def test_a_search_that_finds_nothing_says_how_names_are_compared(person):
    person.opens()
    person.searches("vita")
    person.sees("Names are compared whole", "main")


def test_all_participants_are_reached_page_by_page(person, admin):
    group = create(admin, "many")
    query = "select count(*) from generate_series(1, 120) as n, ledger.join_group(%s, 'p' || n, n) as j"
    assert one(admin, query, [group]) == (120,)
    person.opens(f"#/groups/{group}")
    seen: list[str] = []
    while True:
        cells = "[...document.querySelectorAll('[aria-labelledby=participants] tbody a')].map(a => a.innerText)"
        page = person.page.evaluate(cells)
        seen += page
        if not person.page.evaluate("[...document.links].some(link => link.innerText === 'Next page')"):
            break
        person.follows("Next page")
        person.page.until(f"!document.querySelector('main[aria-busy]') && {cells}[0] !== {json.dumps(page[0])}")
    assert seen == [f"p{number}" for number in range(1, 121)]
    person.follows("First page")
    person.sees("p1\n", "main")


def test_a_refusal_is_shown_with_its_message_and_nothing_is_done(person, admin, group):
    before = entries(admin, group["id"])
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}")
    person.presses("Send")
    person.types("To", "Vlad")
    person.types("Amount", "101")
    person.presses("Continue")
    person.presses("Send")
    person.sees("Insufficient funds: participant", "dialog")
    person.sees("amount: exceeds the balance of 100", "dialog")
    person.sees("Send at most the balance", "dialog")
    assert entries(admin, group["id"]) == before
    person.presses("Back")
    person.types("Amount", "100")
    person.presses("Continue")
    person.presses("Send")
    person.sees("0 wei", ".balance")
    assert entries(admin, group["id"])[-1][3] == 100


def test_the_highest_amount_is_exact_in_each_unit(person, admin):
    group = create(admin, "highest")
    person.opens(f"#/groups/{group}")
    person.presses("Join a participant")
    person.types("Username", "whale")
    person.types("Amount", str(HIGHEST))
    person.presses("Continue")
    person.presses("Join")
    person.sees("whale has joined", "#news")
    assert entries(admin, group)[0][3] == HIGHEST
    person.follows("whale")
    digits = f"{HIGHEST:,}".replace(",", " ")
    person.sees(f"{digits} wei", ".balance")
    person.chooses("Unit", "ether")
    whole, rest = divmod(HIGHEST, 10**18)
    person.sees(f"{whole:,}".replace(",", " ") + f".{rest:018} ether", ".balance")
    assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_hostile_usernames_are_shown_as_they_are(person, admin, group):
    hostile = [join(admin, group["id"], username) for username in HOSTILE]
    transfers = [transfer(admin, group["id"], each, group["Vlad"], 1) for each in hostile]
    views = ["", f"/participants/{group['Vlad']}", f"/participants/{hostile[0]}", f"/entries/{transfers[0]}"]
    for width in (1280, 390):
        person.page("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        for view in views:
            person.opens(f"#/groups/{group['id']}{view}")
            names = person.page.evaluate("[...document.querySelectorAll('main bdi')].map(name => name.textContent)")
            assert set(HOSTILE if view in views[:2] else HOSTILE[:1]) <= set(names)
            assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (width, view)
            assert not person.page.evaluate("document.querySelector('main script, main img')")
    person.page("Emulation.clearDeviceMetricsOverride")
    person.searches(HOSTILE[-1])
    person.sees("participant", "main table")


def test_an_api_key_is_asked_for_used_and_never_in_an_address(chromium, database: Database):
    with database.connect(database.admin) as admin:
        create(admin, "Guarded")
        (secret,) = one(admin, "select secret from ledger.create_api_key('reader', 'read')")
    with serving(database) as service, browser.another(chromium) as page:
        person = Person(page, f"http://127.0.0.1:{service.port}")
        person.opens()
        person.sees("This ledger asks for an API key", "main")
        person.types("API key", f"ledger_1_{'0' * 64}")
        person.presses("Use it")
        person.sees("not valid, or was revoked", "main")
        person.types("API key", secret)
        person.presses("Use it")
        person.follows("Guarded")
        person.presses("Join a participant")
        person.types("Username", "alice")
        person.types("Amount", "1")
        person.presses("Continue")
        person.presses("Join")
        person.sees("the key's scope is read, and transact is needed", "dialog")
        person.opens()
        person.sees("Guarded", "main")
        assert not any(secret in each for each in page.requested)
        assert secret not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        person.presses("API key in use")
        person.presses("Forget it")
        person.sees("This ledger asks for an API key", "main")
        assert page.evaluate("sessionStorage.length") == 0
        assert person.complaints() == []


def test_a_request_whose_answer_is_lost_is_repeated_with_its_key_and_done_once(person, admin, group):
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}")
    person.presses("Deposit")
    person.types("Amount", "7")
    person.presses("Continue")
    person.page.evaluate(
        "window.sent = fetch, window.fetch = async (path, given) => given.method === 'GET' ? window.sent(path, given)"
        " : window.sent(path, given).then(() => { throw new TypeError('lost') })"
    )
    person.presses("Deposit")
    person.sees("It may have been done", "dialog")
    assert balance(admin, group["id"], group["Vitalik"]) == 107
    assert "Back" not in person.shown("dialog")
    person.page.evaluate("window.fetch = window.sent")
    person.presses("Try again")
    person.sees("The deposit is made", "#news")
    assert balance(admin, group["id"], group["Vitalik"]) == 107
