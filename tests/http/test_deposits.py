"""Deposits of participants who have joined: answers, entries and refusals."""

import pytest

from tests.http.client import problem
from tests.support import one


def test_deposits_and_returns_the_entry(api, group, admin):
    path = f"{group.path}/participants/{group.alice}"
    answer = api("POST", f"{path}/deposits", {"amount": 50, "metadata": {"transaction": "0x1b"}})
    assert answer.status == 201
    assert answer.body == (
        b'{"data":{"username":"alice","id":%d,"group_id":%d,"amount":150}}' % (group.alice, group.id)
    )
    assert "Location" not in answer.headers
    query = (
        "select kind, from_id, to_id, amount, to_amount, metadata from ledger.record where group_id = %s and id = %s"
    )
    entry = one(admin, query, [group.id, int(answer.headers["Ledger-Entry"])])
    assert entry == ("deposit", None, group.alice, 50, 150, {"transaction": "0x1b"})
    assert api("GET", path).body == answer.body
    assert api("GET", f"{group.path}/total").data == {"group_total": 250}


def test_is_in_the_histories_and_in_the_feed(api, group):
    path = f"{group.path}/participants/{group.alice}"
    entry = int(api("POST", f"{path}/deposits", {"amount": 50}).headers["Ledger-Entry"])
    for listed in (f"{group.path}/entries", f"{path}/entries"):
        (found,) = api("GET", f"{listed}?kind=deposit").data
        assert (found["id"], found["kind"], found["from"], found["to"]) == (entry, "deposit", None, group.alice)
        assert api("GET", f"{listed}?order=desc&limit=1").data == [found]
    assert api("GET", f"{group.path}/entries/{entry}").data == found
    assert api("GET", f"{path}?at={entry}").data["amount"] == 150
    assert api("GET", f"{group.path}/total?at={entry - 1}").data == {"group_total": 200}
    read, after = [], "/api/entries"
    while after:
        answer = api("GET", after)
        read += [row for row in answer.data if row["id"] == entry]
        after = answer.json["next"] if answer.data else None
    assert read == [found]


@pytest.mark.parametrize("amount", ['"50"', '"0x32"', "50"])
def test_takes_each_spelling_of_an_amount(api, group, amount):
    answer = api("POST", f"{group.path}/participants/{group.alice}/deposits", f'{{"amount": {amount}}}')
    assert answer.data["amount"] == 150


def test_a_repeated_request_is_done_once(api, group):
    path = f"{group.path}/participants/{group.alice}/deposits"
    first = api("POST", path, {"amount": 50}, headers={"Idempotency-Key": "deposit"})
    again = api("POST", path, {"amount": "50"}, headers={"Idempotency-Key": "deposit"})
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Ledger-Entry"] == first.headers["Ledger-Entry"]
    reused = api("POST", path, {"amount": 51}, headers={"Idempotency-Key": "deposit"})
    problem(reused, 422, "idempotency_key_reused")


@pytest.mark.parametrize("amount", ["0", "-1", "1.5", "null", '"x"', str(2**256), str(2**256 - 100), "true"])
def test_refuses_a_bad_amount(api, group, unchanged, amount):
    answer = api("POST", f"{group.path}/participants/{group.alice}/deposits", f'{{"amount": {amount}}}')
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["amount"]


def test_refuses_unknown_groups_and_participants(api, group, other, unchanged):
    for path in (
        f"{other.path}/participants/{group.alice}",
        f"{group.path}/participants/0",
        "/api/groups/0/participants/1",
    ):
        problem(api("POST", f"{path}/deposits", {"amount": 50}), 404, "not_found")


def test_refuses_a_participant_who_left(api, group):
    path = f"{group.path}/participants/{group.alice}"
    api("DELETE", path)
    assert problem(api("POST", f"{path}/deposits", {"amount": 50}), 404, "not_found")["sqlstate"] == "LG002"


def test_refuses_unknown_members(api, group, unchanged):
    answer = api("POST", f"{group.path}/participants/{group.alice}/deposits", {"amount": 50, "to": group.bob})
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["to"]


def test_cannot_be_reversed(api, group):
    deposit = api("POST", f"{group.path}/participants/{group.alice}/deposits", {"amount": 50})
    path = f"{group.path}/entries/{deposit.headers['Ledger-Entry']}"
    assert problem(api("POST", f"{path}/reversal"), 422, "invalid_value")["sqlstate"] == "LG001"
