"""A participant's statement in the explorer: its period, its balances, its pages, as CSV and on paper."""

import csv
import io
import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.explorer.person import Person
from tests.support import one, transfer, until

ROWS = "[...document.querySelectorAll('main tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"


@pytest.fixture
def in_utc(person: Person):
    person.page("Emulation.setTimezoneOverride", timezoneId="UTC")
    yield
    person.page("Emulation.setTimezoneOverride", timezoneId="")


def rows(person: Person) -> list[list[str]]:
    return person.page.evaluate(ROWS)


def balances(person: Person) -> dict[str, str]:
    return {row[1]: row[4] for row in rows(person) if row[1].endswith(" balance")}


def move_to_the_past(admin, group: int, days: int) -> None:
    """Make everything in a group so many days older."""
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")
        for table, column in (("entries", "created_at"), ("group_total_history", "created_at")):
            admin.execute(
                f"update ledger.{table} set {column} = {column} - %s * interval '1 day' where group_id = %s",
                [days, group],
            )
        admin.execute(
            "update ledger.participants set joined_at = joined_at - %(days)s * interval '1 day',"
            " moved_at = moved_at - %(days)s * interval '1 day' where group_id = %(group)s",
            {"days": days, "group": group},
        )


def chooses(person: Person, first: str, last: str) -> None:
    for name, day in (("First day", first), ("Last day", last)):
        person.page.evaluate(f"{person.control('input', name)}.value = {json.dumps(day)}")
    person.presses("Show")


def test_a_statement_of_a_period_lies_between_its_two_balances(person, admin, group, in_utc):
    inside, vitalik = group["id"], group["Vitalik"]
    transfer(admin, inside, vitalik, group["Vlad"], 30)
    move_to_the_past(admin, inside, 40)
    transfer(admin, inside, group["Vlad"], vitalik, 7)
    move_to_the_past(admin, inside, 10)
    transfer(admin, inside, vitalik, group["Vlad"], 2)
    now = one(admin, "select (now() at time zone 'utc')::date")[0]
    person.opens(f"#/groups/{inside}/participants/{vitalik}")
    person.sees("Closing balance", "main table")
    assert [row[3] for row in rows(person)] == ["", "\u22122", "+7", "\u221230", "+100", ""]
    assert balances(person) == {"Closing balance": "75", "Opening balance": "0"}
    day = timedelta(days=1)
    chooses(person, str(now - 20 * day), str(now - 10 * day))
    person.sees("From ", "main section")
    until(lambda: balances(person) == {"Closing balance": "77", "Opening balance": "70"}, "the balances of the period")
    (line,) = rows(person)[1:-1]
    assert line[1:5] == ["transfer", "Vlad", "+7", "77"]
    # The last day belongs to the period, the one after it does not.
    chooses(person, str(now - 9 * day), "")
    until(lambda: balances(person) == {"Closing balance": "75", "Opening balance": "77"}, "the balances since a day")
    chooses(person, "", str(now - 60 * day))
    person.sees("Nothing happened in this period", "main section")
    assert balances(person) == {"Closing balance": "0", "Opening balance": "0"}
    person.follows("All")
    until(lambda: len(rows(person)) == 6, "the whole statement")


def test_each_page_goes_on_where_the_one_before_ends(person, admin, group):
    inside, vitalik = group["id"], group["Vitalik"]
    for amount in range(1, 61):
        one(admin, "select id from ledger.deposit(%s, %s, %s)", [inside, vitalik, amount])
    person.opens(f"#/groups/{inside}/participants/{vitalik}")
    changes, closing = [], str(100 + sum(range(1, 61)))
    for size in (25, 25, 11):
        until(lambda size=size: len(rows(person)) == size + 2, "the page")  # with both balances
        until(lambda closing=closing: balances(person)["Closing balance"].replace("\u2009", "") == closing, "its end")
        changes += [row[3] for row in rows(person)[1:-1]]
        closing = balances(person)["Opening balance"].replace("\u2009", "")
        if len(changes) < 61:
            person.follows("Older entries")
    assert changes == [f"+{amount}" for amount in (*range(60, 0, -1), 100)]
    assert closing == "0"
    person.follows("Newest entries")
    until(lambda: rows(person)[1][3] == "+60", "the newest page")


def test_entries_of_one_time_are_all_shown(person, admin, group):
    inside, vitalik, vlad = group["id"], group["Vitalik"], group["Vlad"]
    lines = [{"from": vitalik, "to": vlad, "amount": 1}, {"from": vlad, "to": vitalik, "amount": 1}] * 600
    one(admin, "select entries from ledger.transfer_all(%s, %s)", [inside, json.dumps(lines)])
    person.opens(f"#/groups/{inside}/participants/{vitalik}")
    until(lambda: len(rows(person)) == 1001, "as many entries as one answer has, and the opening balance")
    seen = {row[0] for row in rows(person)}
    person.follows("More of the same time")
    until(lambda: "Closing balance" in balances(person), "the rest")
    seen |= {row[0] for row in rows(person)}
    assert len(seen - {""}) == 1200
    person.follows("Newest entries")
    person.follows("Older entries")
    until(lambda: [row[3] for row in rows(person)[1:-1]] == ["+100"], "the join")


def test_the_file_is_the_services_own(person, api, admin, group, in_utc, tmp_path):
    inside, vitalik = group["id"], group["Vitalik"]
    one(admin, "select id from ledger.deposit(%s, %s, %s)", [inside, vitalik, 2**255])
    path = f"/api/groups/{inside}/participants/{vitalik}/statement"
    tomorrow = date.today() + timedelta(days=1)
    person.page("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    for query, period in (
        ("", ""),
        ("?from=2026-01-01&to=2999-01-31", "?from=2026-01-01T00:00:00.000Z&to=2999-02-01T00:00:00.000Z"),
        (f"?from={tomorrow + timedelta(days=1)}", f"?from={tomorrow + timedelta(days=1)}T00:00:00.000Z"),
    ):
        person.opens(f"#/groups/{inside}/participants/{vitalik}{query}")
        person.presses("Download CSV")
        file = tmp_path / f"statement-{inside}-{vitalik}.csv"
        until(file.exists, "the file")
        expected = api("GET", path + period, headers={"Accept": "text/csv"}).body
        assert file.read_bytes() == expected
        file.unlink()
    assert next(csv.DictReader(io.StringIO(expected.decode())))["kind"] == "opening"
    person.page("Browser.setDownloadBehavior", behavior="default")


def test_a_refused_file_is_announced(person, group):
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}?from=2026-02-01&to=2026-01-01")
    person.sees("to must not be before the beginning", "main")
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}")
    person.page.evaluate("window.fetch = async () => { throw new TypeError('lost') }")
    person.presses("Download CSV")
    person.sees("The statement was not downloaded", "#news")


def test_on_paper_there_is_the_statement_alone(person, admin, group, tmp_path):
    person.opens(f"#/groups/{group['id']}/participants/{group['Vitalik']}")
    person.sees("Closing balance", "main table")
    person.page("Emulation.setEmulatedMedia", media="print")
    person.page.screenshot(Path(tmp_path) / "printed.png")
    hidden = "[...document.querySelectorAll('header, footer, form, button, .chart')]"
    assert person.page.evaluate(f"{hidden}.length") > 5
    assert person.page.evaluate(f"{hidden}.filter(element => element.checkVisibility()).length") == 0
    for text in ("Vitalik", "Statement", "Opening balance", "+100"):
        assert text in person.shown("main")
    person.page("Emulation.setEmulatedMedia", media="")
