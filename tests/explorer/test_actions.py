"""Every search, action and form of the explorer in a browser."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.explorer.person import Person, entries
from tests.http.client import serving
from tests.openapi import browser
from tests.support import Database, create, join, one, transfer

HIGHEST = (1 << 256) - 1


@pytest.mark.parametrize(
    ("searched", "found"),
    [
        ("Vitalik", "participant"),
        ("ID OF VITALIK", "participant"),
        ("NAME", "group"),
        ("ID", "group"),
        ("ENTRY", "entry"),
    ],
)
def test_a_search_finds_groups_participants_and_entries(person, admin, group, searched, found):
    name = one(admin, "select name from ledger.groups where id = %s", [group["id"]])[0]
    entry = transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 1)
    text = {
        "ID OF VITALIK": str(group["Vitalik"]),
        "NAME": name,
        "ID": str(group["id"]),
        "ENTRY": str(entry),
    }.get(searched, searched)
    view = {
        "participant": f"#/groups/{group['id']}/participants/{group['Vitalik']}",
        "group": f"#/groups/{group['id']}",
        "entry": f"#/groups/{group['id']}/entries/{entry}",
    }[found]
    person.opens(f"#/groups/{group['id']}")
    person.searches(text)
    person.sees("Search: ", "h1")
    person.page.until(f"document.querySelector('main td a[href=\"{view}\"]')")
    person.page.evaluate(f"document.querySelector('main td a[href=\"{view}\"]').click()")
    person.is_at(view)


def test_the_slash_leads_to_the_search_box(person, group):
    person.opens()
    person.page("Input.dispatchKeyEvent", type="keyDown", key="/", text="/")
    assert person.page.evaluate("document.activeElement.id") == "query"
    assert person.page.evaluate("document.activeElement.value") == ""


def test_a_statement_goes_back_to_its_beginning(person, admin, group):
    for amount in range(1, 31):
        transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 1 if amount % 2 else 2)
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}")
    person.sees("55 wei", ".balance")
    assert "+100" not in person.shown("main table")
    person.follows("Older entries")
    person.sees("+100", "main table")
    person.sees("outside", "main table")


@pytest.mark.parametrize(
    ("to", "amount", "message"),
    [
        ("nobody", "5", "Nobody in this group"),
        ("", "5", "Write a name"),
        ("Vlad", "", "Write digits"),
        ("Vlad", "1.5", "wei has no decimals"),
        ("Vlad", "-1", "Write digits"),
        ("Vlad", "0", "at least 1 wei"),
        ("Vlad", str(HIGHEST + 1), "below 2^256"),
    ],
)
def test_an_invalid_field_is_named_before_anything_is_sent(person, admin, group, to, amount, message):
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}")
    person.presses("Send")
    person.types("To", to)
    person.types("Amount", amount)
    person.presses("Continue")
    person.sees(message, "dialog .wrong")
    field = person.page.evaluate("document.activeElement.getAttribute('aria-describedby')")
    assert message in person.shown(f"#{field.split()[-1]}")
    assert len(entries(admin, group["id"])) == 2


def test_an_amount_is_read_in_the_unit_that_is_chosen(person, admin):
    group = create(admin, "ether")
    person.opens(f"#/groups/{group}")
    person.chooses("Unit", "ether")
    person.presses("Join a participant")
    person.types("Username", "saver")
    person.types("Amount in ether", "1.000000000000000001")
    person.presses("Continue")
    person.sees("1.000000000000000001 ether (1 000 000 000 000 000 001 wei)", "dialog")
    person.presses("Join")
    person.sees("saver has joined", "#news")
    assert entries(admin, group)[0][3] == 10**18 + 1


def test_an_exit_is_confirmed_settled_and_its_page_remains(person, admin, group):
    person.opens(f"#/groups/{group['id']}/participants/{group['Vlad']}")
    person.presses("Exit")
    person.sees("leaves the group with 100 wei. This cannot be undone", "dialog")
    person.presses("Exit")
    person.sees("Left the group with 100 wei", ".balance")
    assert person.shown("h1") == "Vlad"
    person.follows("entry")
    person.sees("has not been paid", "main")
    person.presses("Settle")
    person.types("Reference", "0xabc")
    person.presses("Continue")
    person.presses("Settle")
    person.sees("0xabc", "main dl")
    person.opens(f"#/groups/{group['id']}")
    person.sees("exit", "main")
    assert "participant " not in person.shown("[aria-labelledby=newest] tbody")


def test_a_transfer_is_reversed_and_both_entries_lead_to_each_other(person, admin, group):
    entry = transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 30)
    person.opens(f"#/groups/{group['id']}/entries/{entry}")
    person.sees("Vitalik, who then had 70", "main")
    person.sees("Vlad, who then had 130", "main")
    person.presses("Reverse")
    person.sees("Send 30 wei back", "dialog")
    person.presses("Reverse")
    person.sees("Reversed by", "main")
    person.page.evaluate("document.querySelector('main dl a[href*=entries]').click()")
    person.sees("Reverses", "main")
    person.sees(f"entry {entry}", "main dl")


@pytest.mark.parametrize("kind", ["join", "deposit", "transfer", "exit", "reversal"])
def test_the_curl_of_an_entry_makes_such_an_entry(person, admin, group, tmp_path, kind):
    hostile = join(admin, group["id"], "'; touch oops; echo '$(touch oops)\"")
    transfer(admin, group["id"], group["Vitalik"], group["Vlad"], 10)
    metadata = json.dumps({"note": "it's $HOME"})
    (wanted,) = {
        "join": lambda: one(admin, "select id from ledger.record where kind = 'join' and to_id = %s", [hostile]),
        "deposit": lambda: one(
            admin, "select entry_id from ledger.deposit(%s, %s, 3, null, %s)", [group["id"], hostile, metadata]
        ),
        "transfer": lambda: one(
            admin,
            "select entry_id from ledger.transfer(%s, %s, %s, 4, null, %s)",
            [group["id"], hostile, group["Vlad"], metadata],
        ),
        "exit": lambda: one(admin, "select entry_id from ledger.exit_group(%s, %s)", [group["id"], group["Vlad"]]),
        "reversal": lambda: one(
            admin,
            "select id from ledger.reverse_transfer(%s, (select max(id) from ledger.record where kind = 'transfer'))",
            [group["id"]],
        ),
    }[kind]()
    person.opens(f"#/groups/{group['id']}/entries/{wanted}")
    command = person.page.evaluate("document.querySelector('pre.command').textContent")
    ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    answer = json.loads(ran.stdout)
    assert list(Path(tmp_path).iterdir()) == []
    if kind in ("join", "exit", "reversal"):
        # Done before: it is taken, gone, reversed.
        assert answer["code"] == {"join": "already_taken", "exit": "not_found", "reversal": "already_reversed"}[kind]
    else:
        query = "select kind, amount, metadata from ledger.record where group_id = %s order by id desc limit 2"
        again, first = admin.execute(query, [group["id"]]).fetchall()
        assert again == first
        assert first[0] == kind


def test_a_revoked_api_key_is_noticed_where_it_is_used(chromium, database: Database):
    with database.connect(database.admin) as admin:
        create(admin, "Guarded")
        key, secret = one(admin, "select id, secret from ledger.create_api_key('reader', 'read')")
    with serving(database) as service, browser.another(chromium) as page:
        person = Person(page, f"http://127.0.0.1:{service.port}")
        person.opens("#/groups/1")
        person.types("API key", secret)
        person.presses("Use it")
        person.sees("Guarded", "h1")
        with database.connect(database.admin) as admin:
            admin.execute("select ledger.revoke_api_key(%s)", [key])
        person.sees("not valid, or was revoked", "main")
