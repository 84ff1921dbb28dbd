"""POST /api/groups/:id/transfers: many transfers in one step."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.http.client import Answer, problem


def line(group, amount: object = 1, **members: object) -> dict:
    return {"from": group.bob, "to": group.alice, "amount": amount} | members


def test_returns_the_entries_and_the_participants(api, group):
    body = {"transfers": [line(group, 100), {"from": group.alice, "to": group.bob, "amount": "200"}]}
    answer = api("POST", f"{group.path}/transfers", body)
    assert answer.status == 200
    first, second = answer.data["entries"]
    assert list(answer.data) == ["entries", "participants"]
    assert list(first) == ["id", "from", "to", "amount", "from_amount", "to_amount"]
    assert first == line(group, 100) | {"id": first["id"], "from_amount": 0, "to_amount": 200}
    assert (second["amount"], second["from_amount"], second["to_amount"]) == (200, 0, 200)
    assert answer.data["participants"] == [
        {"username": "alice", "id": group.alice, "group_id": group.id, "amount": 0},
        {"username": "bob", "id": group.bob, "group_id": group.id, "amount": 200},
    ]
    assert api("GET", f"{group.path}/entries/{second['id']}").data["amount"] == 200


def test_amounts_may_be_requested_as_strings(api, group):
    answer = api("POST", f"{group.path}/transfers", {"transfers": [line(group)]}, {"Prefer": "amounts=string"})
    assert [entry["to_amount"] for entry in answer.data["entries"]] == ["101"]
    assert [participant["amount"] for participant in answer.data["participants"]] == ["101", "99"]


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "minimal"}])
def test_a_minimal_answer_has_no_lines(api, group, key):
    body = {"transfers": [line(group, 5), line(group, 6), line(group, 7)]}
    answer = api("POST", f"{group.path}/transfers", body, {"Prefer": "return=minimal"} | key)
    assert (answer.status, answer.headers["Preference-Applied"]) == (200, "return=minimal")
    assert answer.headers["Vary"] == "Prefer"
    entries = api("GET", f"{group.path}/entries?kind=transfer").data
    assert [entry["amount"] for entry in entries] == [5, 6, 7]
    assert answer.json == {"data": {"first_entry_id": entries[0]["id"], "last_entry_id": entries[2]["id"], "count": 3}}


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("return=minimal, amounts=string", "return=minimal"),
        ("amounts=string, Return=Minimal", "return=minimal"),
        ("return=representation, return=minimal, amounts=string", "amounts=string"),
        ("return=representation", None),
        ("return", None),
        ("minimal", None),
    ],
)
def test_the_preference_that_was_applied_is_named(api, group, prefer, applied):
    answer = api("POST", f"{group.path}/transfers", {"transfers": [line(group)]}, {"Prefer": prefer})
    assert answer.headers.get("Preference-Applied") == applied
    assert ("count" in answer.data) == (applied == "return=minimal")


def test_a_repetition_gets_the_answer_that_it_prefers(api, group):
    body = {"transfers": [line(group, 50), line(group, 25)]}

    def ask(**headers: str) -> Answer:
        return api("POST", f"{group.path}/transfers", body, {"Idempotency-Key": "repeated"} | headers)

    minimal, whole, again = ask(Prefer="return=minimal"), ask(), ask(Prefer="return=minimal")
    ids = [entry["id"] for entry in whole.data["entries"]]
    assert minimal.data == {"first_entry_id": ids[0], "last_entry_id": ids[1], "count": 2}
    assert [participant["amount"] for participant in whole.data["participants"]] == [175, 25]
    assert again.body == minimal.body
    replayed = [answer.headers.get("Idempotency-Replayed") for answer in (minimal, whole, again)]
    assert replayed == [None, "true", "true"]


def test_lines_keep_their_metadata(api, group):
    body = {"transfers": [line(group), line(group, metadata={"order": 1.50}), line(group, metadata=None)]}
    entries = api("POST", f"{group.path}/transfers", body).data["entries"]
    shown = [api("GET", f"{group.path}/entries/{entry['id']}").data["metadata"] for entry in entries]
    assert shown == [None, {"order": 1.5}, None]


def test_10000_lines_are_made_at_once(api, group):
    lines = [
        line(group, 100),
        *({"from": group.alice, "to": group.bob, "amount": 1, "metadata": {"n": "x" * 1000}} for _ in range(9_999)),
    ]
    refusal = problem(api("POST", f"{group.path}/transfers", {"transfers": lines}), 403, "insufficient_funds")
    assert list(refusal["errors"]) == ["transfers[201].amount"]
    assert api("GET", f"{group.path}/entries?kind=transfer").data == []
    lines[1:] = [line(group, 1) if n % 2 else {"from": group.alice, "to": group.bob, "amount": 1} for n in range(9_999)]
    answer = api("POST", f"{group.path}/transfers", {"transfers": lines})
    assert len(answer.data["entries"]) == 10_000
    assert [participant["amount"] for participant in answer.data["participants"]] == [199, 1]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ("{}", ["transfers"]),
        ('{"transfers": null}', ["transfers"]),
        ('{"transfers": {}}', ["transfers"]),
        ('{"transfers": []}', ["transfers"]),
        ('{"transfers": [LINE], "x": 1}', ["x"]),
        ('{"transfers": [1]}', ["transfers[0]"]),
        ('{"transfers": [[]]}', ["transfers[0]"]),
        ('{"transfers": [LINE, {}]}', ["transfers[1].from", "transfers[1].to", "transfers[1].amount"]),
        (
            '{"transfers": [{"from": true, "to": 1.0, "amount": 1.5}]}',
            [f"transfers[0].{m}" for m in ("from", "to", "amount")],
        ),
        (
            '{"transfers": [{"from": "1e0", "to": " 2", "amount": 1e2}]}',
            [f"transfers[0].{m}" for m in ("from", "to", "amount")],
        ),
        ('{"transfers": [{"from": 1, "from": 2, "to": 3, "amount": 1}]}', ["transfers[0].from"]),
        ('{"transfers": [{"from": 1, "to": 1, "amount": 1}]}', ["transfers[0].to"]),
        ('{"transfers": [{"from": 1, "to": 2, "amount": 1, "x": 1}]}', ["transfers[0].x"]),
        ('{"transfers": [{"from": 1, "to": 2, "amount": 1, "\\u0000": 1}]}', ["transfers[0]"]),
        ('{"transfers": [{"from": 1, "to": 2, "amount": 0}]}', ["transfers[0].amount"]),
        ('{"transfers": [{"from": 1, "to": 2, "amount": -1}]}', ["transfers[0].amount"]),
        (f'{{"transfers": [{{"from": 1, "to": 2, "amount": {2**256}}}]}}', ["transfers[0].amount"]),
        ('{"transfers": [{"from": 1, "to": 2, "amount": 1, "metadata": 5}]}', ["transfers[0].metadata"]),
        ('{"transfers": [{"from": 1, "to": 2, "amount": 1, "metadata": {"a": 1e9999}}]}', ["transfers[0].metadata"]),
        ('{"transfers": [{"from": 1, "to": 2, "amount": {"a": 5}}]}', ["transfers[0].amount"]),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_an_invalid_value_is_named_with_its_line(api, group, body, fields):
    answer = api("POST", f"{group.path}/transfers", body.replace("LINE", json.dumps(line(group))))
    assert list(problem(answer, 422, "invalid_value")["errors"]) == fields


@pytest.mark.usefixtures("unchanged")
def test_more_lines_than_ten_thousand_are_refused(api, group):
    answer = api("POST", f"{group.path}/transfers", {"transfers": [line(group)] * 10_001})
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["transfers"]


@pytest.mark.usefixtures("unchanged")
def test_an_unknown_participant_is_named_by_line(api, group, other):
    lines = [line(group), line(group) | {"to": other.bob}, line(group) | {"from": 2**62}]
    refusal = problem(api("POST", f"{group.path}/transfers", {"transfers": lines}), 404, "not_found")
    assert list(refusal["errors"]) == ["transfers[1].to", "transfers[2].from"]
    problem(api("POST", f"/api/groups/{2**62}/transfers", {"transfers": lines}), 404, "not_found")
    problem(api("POST", "/api/groups/abc/transfers", {"transfers": lines}), 404, "not_found")


@pytest.mark.usefixtures("unchanged")
def test_a_body_may_have_16_mib_and_no_more(api, group):
    for size, status in ((16 << 20, 422), ((16 << 20) + 1, 413)):
        body = b'{"transfers": [], "x": "' + b"x" * (size - 26) + b'"}'
        assert len(body) == size
        assert api("POST", f"{group.path}/transfers", body).status == status


def test_other_requests_are_answered_while_a_large_body_is_read(api, group):
    body = json.dumps({"transfers": [line(group, metadata={"n": "x" * 1000})] * 9_000})
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(api, "POST", f"{group.path}/transfers", body)
        answered = 0
        while not large.done():
            assert api("GET", "/api/health").status == 200
            answered += 1
        assert large.result().status == 403
    assert answered


def test_a_repeated_request_is_done_once(api, group):
    body = {"transfers": [line(group, 50), line(group, "25")]}
    key = {"Idempotency-Key": "key"}
    first = api("POST", f"{group.path}/transfers", body, key)
    again = api("POST", f"{group.path}/transfers", {"transfers": [line(group, "050"), line(group, 25)]}, key)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    other = api("POST", f"{group.path}/transfers", {"transfers": [line(group, 25), line(group, 50)]}, key)
    problem(other, 422, "idempotency_key_reused")
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 25
