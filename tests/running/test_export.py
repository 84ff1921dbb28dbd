"""`ledger export`: a group from which the books can be checked without the ledger."""

import json

import psycopg
import pytest

from api.admin import exporting
from tests.support import Database, call, create, join, one, transfer

LARGEST = 2**256 - 1


def exported(database: Database, group: int) -> list[dict]:
    with database.connect(database.admin) as admin:
        return [json.loads(line) for line in exporting.export(admin, group)]


def recomputed(lines: list[dict]) -> tuple[dict[int, int], int]:
    """The balances and the total that the entries give. Each must continue the balances before it."""
    balances: dict[int, int] = {}
    for entry in (line for line in lines if line["type"] == "entry"):
        amount = int(entry["amount"])
        for side, change in (("from", -amount), ("to", amount)):
            if entry[side] is not None:
                balances[entry[side]] = balances.get(entry[side], 0) + change
                assert balances[entry[side]] == int(entry[f"{side}_amount"]) >= 0
    return balances, sum(balances.values())


@pytest.fixture
def ledger(database: Database) -> psycopg.Connection:
    with database.connect() as ledger:
        yield ledger


def test_the_books_follow_from_an_export(database, ledger):
    group, other = create(ledger, "ETH"), create(ledger, "Other")
    join(ledger, other, "stranger", 5)
    alice, bob, carol = (
        join(ledger, group, name, amount) for name, amount in (("alice", LARGEST), ('b"\\\u00e9', 7), ("carol", 0))
    )
    transfer(ledger, group, alice, bob, 2**200)
    entry = transfer(ledger, group, bob, carol, 7)
    call(ledger, "reverse_transfer", group, entry)
    call(ledger, "deposit", group, carol, 30)
    call(ledger, "transfer_all", group, json.dumps([{"from": bob, "to": carol, "amount": 1, "metadata": {"a": 1}}] * 3))
    call(ledger, "exit_group", group, bob)
    joined = json.dumps([{"username": f"p{number}", "amount": number} for number in range(9)])
    call(ledger, "join_all", group, joined)
    lines = exported(database, group)
    participants = [line for line in lines if line["type"] == "participant"]
    balances, total = recomputed(lines)
    assert {line["id"]: int(line["amount"]) for line in participants} == balances
    assert int(lines[0]["total"]) == total == one(ledger, "select ledger.group_total(%s)", [group])[0]
    assert [line["username"] for line in participants if line["exited_at"]] == ['b"\\\u00e9']
    (metadata,) = {json.dumps(line["metadata"]) for line in lines if line["type"] == "entry"} - {"null"}
    assert json.loads(metadata) == {"a": 1}
    assert lines[-1] == {"type": "end", "participants": 12, "entries": 20, "checkpoints": 0}
    assert [line["type"] for line in lines] == ["group", *["participant"] * 12, *["entry"] * 20, "end"]


def test_an_export_has_the_checkpoints(database, ledger):
    group = create(ledger, "ETH")
    for amount in (3, 4):
        join(ledger, group, f"p{amount}", amount)
        call(ledger, "checkpoint", group)
    lines = exported(database, group)
    checkpoints = [line for line in lines if line["type"] == "checkpoint"]
    assert [(line["number"], line["total"], line["deposits"]) for line in checkpoints] == [(1, "3", 1), (2, "7", 2)]
    headers = call(ledger, "list_checkpoints", group, 0, 10)
    assert [(line["header"], line["seal"]) for line in checkpoints] == [(row[11], row[12]) for row in headers]
    assert checkpoints[1]["previous"] == checkpoints[0]["header"]


def test_refuses_a_group_that_never_existed(database):
    with pytest.raises(exporting.UnknownGroupError):
        exported(database, 2**62)
