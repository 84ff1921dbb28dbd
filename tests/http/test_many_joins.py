"""POST /api/groups/:id/joins: many joins in one step."""

import json

import pytest

from tests.http.client import problem

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


def line(username: object = "carol", amount: object = 1, **members: object) -> dict:
    return {"username": username, "amount": amount} | members


def test_returns_the_entries_and_the_participants(api, group):
    body = {"participants": [line(amount=2**256 - 1), line("dave", "0x1f", address=ADDRESS), line("erin", "050")]}
    answer = api("POST", f"{group.path}/joins", body)
    assert answer.status == 201
    assert list(answer.data) == ["entries", "participants"]
    assert [list(entry) for entry in answer.data["entries"]] == [["id", "to", "amount"]] * 3
    assert [entry["amount"] for entry in answer.data["entries"]] == [2**256 - 1, 31, 50]
    carol, dave, erin = answer.data["participants"]
    assert carol == {"username": "carol", "id": carol["id"], "group_id": group.id, "amount": 2**256 - 1}
    assert [entry["to"] for entry in answer.data["entries"]] == [carol["id"], dave["id"], erin["id"]]
    assert api("GET", f"{group.path}/participants").data[-3:] == [carol, dave, erin]
    assert api("GET", f"{group.path}/participants/{dave['id']}/address").data == {"address": ADDRESS}
    shown = api("GET", f"{group.path}/entries/{answer.data['entries'][1]['id']}").data
    assert (shown["kind"], shown["to"], shown["to_amount"]) == ("join", dave["id"], 31)


def test_amounts_may_be_requested_as_strings(api, group):
    answer = api("POST", f"{group.path}/joins", {"participants": [line()]}, {"Prefer": "amounts=string"})
    assert answer.data["entries"][0]["amount"] == answer.data["participants"][0]["amount"] == "1"


def test_a_minimal_answer_has_no_lines(api, group):
    body = {"participants": [line(amount=5), line("dave", 6)]}
    answer = api("POST", f"{group.path}/joins", body, {"Prefer": "return=minimal, amounts=string"})
    assert (answer.status, answer.headers["Preference-Applied"]) == (201, "return=minimal")
    first, last = api("GET", f"{group.path}/entries?kind=join").data[-2:]
    assert (first["amount"], last["amount"]) == (5, 6)
    assert answer.data == {"first_entry_id": first["id"], "last_entry_id": last["id"], "count": 2}
    refusal = api("POST", f"{group.path}/joins", body, {"Prefer": "return=minimal"})
    assert list(problem(refusal, 422, "already_taken")["errors"]) == ["participants[0].username"]


def test_lines_keep_their_metadata(api, group):
    body = {"participants": [line("x"), line("y", metadata={"order": 1.50}), line("z", metadata=None)]}
    entries = api("POST", f"{group.path}/joins", body).data["entries"]
    shown = [api("GET", f"{group.path}/entries/{entry['id']}").data["metadata"] for entry in entries]
    assert shown == [None, {"order": 1.5}, None]


def test_10000_joins_are_made_at_once_and_once(api, group):
    body = {"participants": [line(f"participant {number} \N{UNICORN FACE}", number) for number in range(10_000)]}
    answer = api("POST", f"{group.path}/joins", body, {"Idempotency-Key": "many"})
    assert [participant["amount"] for participant in answer.data["participants"]] == list(range(10_000))
    again = api("POST", f"{group.path}/joins", body, {"Idempotency-Key": "many"})
    assert (again.status, again.data) == (answer.status, answer.data)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert api("GET", f"{group.path}/total").data == {"group_total": sum(range(10_000)) + 200}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ("{}", ["participants"]),
        ('{"participants": null}', ["participants"]),
        ('{"participants": {}}', ["participants"]),
        ('{"participants": []}', ["participants"]),
        ('{"participants": [LINE], "x": 1}', ["x"]),
        ('{"participants": [1]}', ["participants[0]"]),
        ('{"participants": [LINE, {}]}', ["participants[1].username", "participants[1].amount"]),
        ('{"participants": [{"username": 5, "amount": 1.5}]}', ["participants[0].username", "participants[0].amount"]),
        ('{"participants": [{"username": true, "amount": 1}]}', ["participants[0].username"]),
        ('{"participants": [{"username": "a\\u0000", "amount": 1}]}', ["participants[0].username"]),
        ('{"participants": [{"username": "\\ud800", "amount": 1}]}', ["participants[0].username"]),
        ('{"participants": [{"username": "a", "username": "b", "amount": 1}]}', ["participants[0].username"]),
        (
            '{"participants": [{"username": "\\u200b", "amount": -1}]}',
            ["participants[0].username", "participants[0].amount"],
        ),
        ('{"participants": [{"username": "a", "amount": 1, "address": 5}]}', ["participants[0].address"]),
        ('{"participants": [{"username": "a", "amount": 1, "address": "0x1"}]}', ["participants[0].address"]),
        ('{"participants": [{"username": "a", "amount": 1, "group_id": 1}]}', ["participants[0].group_id"]),
        ('{"participants": [{"username": "a", "amount": 1, "metadata": 5}]}', ["participants[0].metadata"]),
        (f'{{"participants": [{{"username": "a", "amount": {2**256}}}]}}', ["participants[0].amount"]),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_an_invalid_value_is_named_with_its_line(api, group, body, fields):
    answer = api("POST", f"{group.path}/joins", body.replace("LINE", json.dumps(line())))
    assert list(problem(answer, 422, "invalid_value")["errors"]) == fields


@pytest.mark.usefixtures("unchanged")
def test_more_lines_than_ten_thousand_are_refused(api, group):
    answer = api("POST", f"{group.path}/joins", {"participants": [line()] * 10_001})
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["participants"]


@pytest.mark.usefixtures("unchanged")
def test_what_is_taken_is_named_by_line(api, group):
    refusal = problem(
        api("POST", f"{group.path}/joins", {"participants": [line(), line("alice")]}), 422, "already_taken"
    )
    assert list(refusal["errors"]) == ["participants[1].username"]
    lines = [line("x", address=ADDRESS), line("y", address=ADDRESS.lower())]
    refusal = problem(api("POST", f"{group.path}/joins", {"participants": lines}), 409, "address_bound")
    assert list(refusal["errors"]) == ["participants[1].address"]
    problem(api("POST", f"/api/groups/{2**62}/joins", {"participants": [line()]}), 404, "not_found")
    problem(api("POST", "/api/groups/abc/joins", {"participants": [line()]}), 404, "not_found")
