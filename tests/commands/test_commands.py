"""The commands against a service: what they print, what they change, and how a group or a participant is named."""

from __future__ import annotations

import json
import re
from datetime import datetime

import pytest

from api.commands.arguments import Name, reference
from tests.commands.conftest import Group, Run
from tests.http.client import Service
from tests.support import join

HUGE = 2**256 - 1
KEY = re.compile(r"ledger: idempotency key ([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21})\n")


def printed(ledger: Run, *words: object) -> str:
    """The output of a command that must succeed."""
    result = ledger(*words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def lines(ledger: Run, *words: object) -> list[dict]:
    return [json.loads(line) for line in printed(ledger, *words, "--json").splitlines()]


def one(ledger: Run, *words: object) -> dict:
    (line,) = lines(ledger, *words)
    return line


def balances(service: Service, group: Group) -> dict[str, int]:
    listed = service("GET", f"{group.path}/participants").data
    return {participant["username"]: participant["amount"] for participant in listed}


def newest(service: Service, group: Group) -> int:
    """The id of the newest entry."""
    return service("GET", f"{group.path}/entries?order=desc&limit=1").data[0]["id"]


# groups


def test_a_group_is_made_shown_renamed_listed_and_removed(ledger: Run) -> None:
    made = one(ledger, "group", "create", "Savings")
    assert (made["name"], made["replayed"]) == ("Savings", False)
    assert printed(ledger, "group", "show", "Savings").split() == [
        *("name", "Savings", "id", str(made["id"]), "group_total", "0")
    ]
    assert one(ledger, "group", "rename", "Savings", "2026")["name"] == "2026"
    assert {"name": "2026", "id": made["id"]} in lines(ledger, "group", "list")
    assert one(ledger, "group", "show", "@2026") == {"name": "2026", "id": made["id"], "group_total": 0}
    assert one(ledger, "group", "remove", made["id"])["removed"] == made["id"]
    assert ledger("group", "show", "@2026").returncode == 4


# participants and movements


def test_a_transfer_between_usernames_prints_both_balances(ledger: Run, service: Service, group: Group) -> None:
    result = ledger("transfer", group.name, 50, "--from", "bob", "--to", "alice")
    assert (result.returncode, balances(service, group)) == (0, {"alice": 150, "bob": 50})
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["SIDE", "ID", "USERNAME", "AMOUNT"],
        ["to", str(group.alice), "alice", "150"],
        ["from", str(group.bob), "bob", "50"],
        ["entry_id", str(newest(service, group))],
    ]
    assert KEY.fullmatch(result.stderr)


def test_json_has_the_members_of_the_api_and_the_receipt(ledger: Run, service: Service, group: Group) -> None:
    result = ledger("transfer", group.id, "0x32", "--from", group.bob, "--to", group.alice, "--json")
    moved = json.loads(result.stdout)
    receipt = {name: moved.pop(name) for name in ("entry_id", "replayed", "idempotency_key")}
    shown = service("GET", f"{group.path}/participants").data
    assert list(moved.items()) == [("to_participant", shown[0]), ("from_participant", shown[1])]
    found = KEY.fullmatch(result.stderr)
    assert found
    assert receipt == {"entry_id": newest(service, group), "replayed": False, "idempotency_key": found[1]}
    for mine, theirs in zip(
        lines(ledger, "entry", "list", group.id), service("GET", f"{group.path}/entries").data, strict=True
    ):
        assert datetime.fromisoformat(mine.pop("created_at")) == datetime.fromisoformat(theirs.pop("created_at"))
        assert list(mine.items()) == list(theirs.items())


def test_a_command_with_a_given_idempotency_key_is_done_once(ledger: Run, service: Service, group: Group) -> None:
    words = ("deposit", group.id, "alice", 7, "--idempotency-key", "mine")
    first, second = ledger(*words), ledger(*words)
    assert balances(service, group)["alice"] == 107
    assert (first.stderr, second.stderr) == ("", "")
    assert second.stdout.splitlines()[:-1] == first.stdout.splitlines()
    assert second.stdout.splitlines()[-1].split() == ["replayed", "True"]


def test_every_movement_has_a_command(ledger: Run, service: Service, group: Group) -> None:
    address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    joined = one(ledger, "join", group.id, "carol", 10, "--metadata", '{"order": 17}')
    deposited = one(ledger, "deposit", group.id, "carol", 5)
    moved = one(ledger, "transfer", group.id, 8, "--from", "carol", "--to", "bob", "--metadata", '{"order": 18}')
    reversal = one(ledger, "reverse", group.id, moved["entry_id"])
    renamed = one(ledger, "participant", "rename", group.id, "carol", "Carol")
    bound = one(ledger, "participant", "bind", group.id, "Carol", address)
    shown = one(ledger, "participant", "show", group.id, "Carol")
    past = one(ledger, "participant", "show", group.id, joined["id"], "--at", joined["entry_id"])
    left = one(ledger, "exit", group.id, "Carol")
    settled = one(ledger, "settle", group.id, left["entry_id"], "0x5f")
    assert (joined["amount"], deposited["amount"]) == (10, 15)
    assert (reversal["reverses"], renamed["username"]) == (moved["entry_id"], "Carol")
    assert (bound["address"], shown["address"], shown["amount"], past["amount"]) == (address, address, 15, 10)
    assert (left["final_amount"], settled["reference"]) == (15, "0x5f")
    ordered = [entry["id"] for entry in lines(ledger, "entry", "list", group.id, "--metadata", '{"order": 17}')]
    assert ordered == [joined["entry_id"]]
    newest = one(ledger, "entry", "list", group.id, "--participant", joined["id"], "--newest-first", "--limit", 1)
    assert newest == one(ledger, "entry", "show", group.id, left["entry_id"])
    kinds = [entry["kind"] for entry in lines(ledger, "entry", "list", group.id, "--kind", "exit")]
    assert kinds == ["exit"]


def test_the_largest_amount_is_exact(ledger: Run, group: Group) -> None:
    joined = ledger("join", group.id, "whale", HUGE)
    assert ["amount", str(HUGE)] in [line.split() for line in joined.stdout.splitlines()]
    assert str(HUGE) in printed(ledger, "participant", "list", group.id)
    assert one(ledger, "participant", "show", group.id, "whale")["amount"] == HUGE
    assert one(ledger, "group", "show", group.id)["group_total"] == HUGE + 200
    assert lines(ledger, "entry", "list", group.id)[-1]["to_amount"] == HUGE


def test_a_list_longer_than_a_page_is_whole_and_limited(ledger: Run, service: Service) -> None:
    group = service("POST", "/api/groups", {"name": "long"}).data["id"]
    with service.database.connect() as connection:
        connection.execute(
            "select count(j) from generate_series(1, 1001) as n "
            "cross join lateral ledger.join_group(%s, 'p' || n, 1) as j",
            [group],
        )
    assert len(lines(ledger, "participant", "list", group)) == 1001
    assert len(printed(ledger, "participant", "list", group).splitlines()) == 1001 + 2  # two tables
    assert len(lines(ledger, "participant", "list", group, "--limit", 3)) == 3


# names


@pytest.mark.parametrize(
    ("given", "read"),
    [("7", 7), ("alice", "alice"), ("@7", "7"), ("@@alice", "@alice"), ("-x", "-x"), ("٧", "٧"), ("7a", "7a")],
)
def test_digits_are_an_id_and_all_else_is_a_name(given: str, read: int | str) -> None:
    assert reference(given) == read
    assert isinstance(reference(given), Name) == isinstance(read, str)


@pytest.mark.parametrize("given", ["", "@", "0", "9223372036854775808", "1" * 30])
def test_an_id_or_a_name_that_cannot_be_is_refused(given: str, ledger: Run) -> None:
    assert ledger("group", "show", given).returncode == 2


def test_a_username_is_looked_up_in_its_own_group(ledger: Run, service: Service, group: Group) -> None:
    other = service("POST", "/api/groups", {"name": f"beside {group.id}"}).data["id"]
    service("POST", f"/api/groups/{other}/participants", {"username": "zoe", "amount": 1})
    result = ledger("deposit", group.id, "zoe", 1)
    assert (result.returncode, result.stdout) == (4, "")
    assert result.stderr == f"ledger: not_found: no participant of group {group.id} has the username zoe\n"


def test_a_hostile_username_commands_no_terminal(ledger: Run, service: Service, group: Group) -> None:
    with service.database.connect(service.database.admin) as admin:
        admin.execute("alter table ledger.participants disable trigger user")
        admin.execute(
            "update ledger.participants set username = %s where group_id = %s and id = %s",
            ["\x1b[2J\x07\u202eевил\u200b", group.id, group.alice],
        )
        admin.execute("alter table ledger.participants enable trigger user")
    table = printed(ledger, "participant", "list", group.id)
    assert r"\x1b[2J\x07\u202eевил\u200b" in table
    as_json = printed(ledger, "participant", "show", group.id, group.alice, "--json")
    assert json.loads(as_json)["username"] == "\x1b[2J\x07\u202eевил\u200b"
    refused = ledger("join", group.id, "\x1b[2J\u202e", 1)
    assert refused.returncode == 3
    for text in (table, as_json, refused.stderr):
        assert not set(text) & set("\x1b\x07\u202e\u200b")


def test_wide_usernames_stay_in_their_columns(ledger: Run, service: Service, group: Group) -> None:
    with service.database.connect() as connection:
        join(connection, group.id, "字" * 255, 5)
    *_, bob, wide = printed(ledger, "participant", "list", group.id).splitlines()
    assert bob.endswith("100")
    assert len(wide) + 255 == len(bob)


def test_names_print_in_a_locale_that_lacks_their_letters(ledger: Run, group: Group) -> None:
    assert ledger("join", group.id, "Zoë", 1).returncode == 0
    shown = ledger("participant", "show", group.id, "Zoë", PYTHONIOENCODING="ascii")
    assert r"Zo\xeb" in shown.stdout


def test_a_connection_is_not_needed_for_help(ledger: Run) -> None:
    assert "--idempotency-key" in printed(ledger, "transfer", "--help")


# statements


def test_a_statement_runs_from_the_opening_to_the_closing_balance(ledger: Run, group: Group) -> None:
    paid = one(ledger, "transfer", group.id, HUGE - 100, "--from", one_whale(ledger, group), "--to", "bob")
    spent = one(ledger, "transfer", group.id, 30, "--from", "bob", "--to", "alice", "--metadata", '{"order": 17}')
    entries = {entry["id"]: entry["created_at"] for entry in lines(ledger, "entry", "list", group.id)}
    whole = one(ledger, "statement", group.id, "bob")
    assert (whole["username"], whole["opening_balance"], whole["closing_balance"]) == ("bob", 0, HUGE - 30)
    assert [(line["change"], line["balance"]) for line in whole["lines"]] == [
        (100, 100),
        (HUGE - 100, HUGE),
        (-30, HUGE - 30),
    ]
    period = ("--from", entries[paid["entry_id"]], "--to", entries[spent["entry_id"]])
    chosen = one(ledger, "statement", group.id, "bob", *period)
    assert [line["id"] for line in chosen["lines"]] == [paid["entry_id"]]
    assert (chosen["opening_balance"], chosen["closing_balance"]) == (100, HUGE)
    title, header, opening, *middle, closing = printed(ledger, "statement", group.id, "bob").splitlines()
    assert title == f"bob, participant {group.bob} of group {group.id}"
    assert header.split()[-3:] == ["CHANGE", "BALANCE", "METADATA"]
    assert (opening.split(), closing.split()) == (["opening", "0"], ["closing", str(HUGE - 30)])
    assert middle[-1].split()[2:] == [
        *("transfer", str(group.alice), "alice", "-30", str(HUGE - 30), '{"order":', "17}")
    ]


def one_whale(ledger: Run, group: Group) -> int:
    """The id of a new participant who holds almost everything."""
    return one(ledger, "join", group.id, "whale", HUGE - 100)["id"]


def test_a_statement_in_csv_is_the_services(ledger: Run, service: Service, group: Group) -> None:
    joined = one(ledger, "join", group.id, '=1+1,"x"', 5)
    one(ledger, "transfer", group.id, 5, "--from", joined["id"], "--to", "alice")
    statement = f"{group.path}/participants/{group.alice}/statement"
    for period, query in (((), ""), (("--from", "2026-01-01"), "?from=2026-01-01T00:00:00%2B00:00")):
        served = service("GET", f"{statement}{query}", headers={"Accept": "text/csv"}).body
        assert served.count(b"\r\n") == 5
        # Line ends are read as text here; the page of commands writes such a file.
        assert printed(ledger, "statement", group.id, "alice", "--csv", *period) == served.decode().replace("\r", "")
    assert ledger("statement", group.id, "alice", "--csv", "--json").returncode == 2


def test_a_long_statement_is_whole(ledger: Run, service: Service, group: Group) -> None:
    with service.database.connect() as connection:
        connection.execute(
            "select count(d) from generate_series(1, 1001) as n cross join lateral ledger.deposit(%s, %s, n / n) as d",
            [group.id, group.alice],
        )
    whole = one(ledger, "statement", group.id, "alice")
    assert [line["balance"] for line in whole["lines"]] == list(range(100, 1102))
    assert whole["closing_balance"] == 1101
    assert printed(ledger, "statement", group.id, "alice").splitlines()[-1].split() == ["closing", "1101"]


# many transfers


def test_many_transfers_are_made_all_or_none(ledger: Run, service: Service, group: Group) -> None:
    given = [
        {"from": group.bob, "to": group.alice, "amount": "0x46"},
        {"from": group.alice, "to": group.bob, "amount": 5},
    ]
    result = ledger("transfers", group.name, "-", said=json.dumps(given))
    assert (result.returncode, balances(service, group)) == (0, {"alice": 165, "bob": 35})
    assert [line.split() for line in result.stdout.splitlines()][-1] == ["entries", "2"]
    refused = ledger("transfers", group.name, "-", said=json.dumps(given))
    assert (refused.returncode, refused.stdout) == (6, "")
    assert "transfers[0].amount exceeds the balance of 35" in refused.stderr
    assert balances(service, group) == {"alice": 165, "bob": 35}


@pytest.mark.parametrize(
    "said",
    [
        *(
            "",
            "{}",
            "[1]",
            '[{"from": 1, "to": 2}]',
            '[{"from": 1, "to": 2, "amount": 1.5}]',
            '[{"from": 1, "from": 2}]',
        ),
        *('[{"from": 1.5, "to": 2, "amount": 1}]', '[{"from": 1, "to": 2, "amount": 1, "metadata": []}]'),
    ],
)
def test_a_list_that_is_not_one_of_transfers_sends_nothing(said: str, ledger: Run) -> None:
    result = ledger("transfers", 1, "-", said=said)
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
