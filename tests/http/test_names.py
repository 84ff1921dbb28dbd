"""Names over HTTP: found by a query, stored in one spelling, and a conflict names the owner."""

import json
from urllib.parse import quote

import pytest

from tests.http.client import problem


def test_a_participant_is_found_by_username(api, group):
    answer = api("GET", f"{group.path}/participants?username=bob")
    assert (answer.status, [row["id"] for row in answer.data]) == (200, [group.bob])
    assert "next" not in answer.json
    assert answer.data == [api("GET", f"{group.path}/participants/{group.bob}").data]
    assert [row["id"] for row in api("GET", f"{group.path}/participants?limit=1&username=bob").data] == [group.bob]
    assert api("GET", f"{group.path}/participants?username=Bob").json == {"data": []}
    assert api("GET", f"{group.path}/participants?username=").json == {"data": []}
    assert api("GET", f"{group.path}/participants?username=bob&after={group.bob}").json == {"data": []}


def test_a_group_is_found_by_name(api, group):
    assert api("GET", f"/api/groups?name={quote(group.name)}").json == {"data": [api("GET", group.path).data]}
    assert api("GET", f"/api/groups?name={quote(group.name)}x").json == {"data": []}


@pytest.mark.parametrize("query", ["username=a&username=b", "username=%00", "name=bob"])
def test_the_username_of_a_query_is_text_and_not_repeated(api, group, query):
    answer = api("GET", f"{group.path}/participants?{query}")
    assert query.partition("=")[0] in problem(answer, 422, "invalid_value")["errors"]


def test_a_name_has_one_spelling(api, group):
    joined = api("POST", f"{group.path}/participants", {"username": "cafe\u0301", "amount": 1})
    assert (joined.status, joined.data["username"]) == (201, "caf\u00e9")
    for spelled in ("caf\u00e9", "cafe\u0301"):
        assert api("GET", f"{group.path}/participants?username={quote(spelled)}").data == [joined.data]
        taken = api("POST", f"{group.path}/participants", {"username": spelled, "amount": 1})
        assert problem(taken, 422, "already_taken")["errors"] == {"username": ["has already been taken"]}


@pytest.mark.parametrize("name", ["\u3164", "\u2800", "bo\u200bb", "\u202ebob", "bob\u200f"])
def test_a_name_that_looks_like_another_is_refused(api, group, name):
    requests = [
        ("POST", "/api/groups", {"name": name}, "name"),
        ("PATCH", group.path, {"name": name}, "name"),
        ("POST", f"{group.path}/participants", {"username": name, "amount": 1}, "username"),
        ("PATCH", f"{group.path}/participants/{group.bob}", {"username": name}, "username"),
    ]
    for method, path, body, field in requests:
        assert [*problem(api(method, path, body), 422, "invalid_value")["errors"]] == [field]


def test_a_conflict_names_the_owner_of_the_name(api, group):
    answer = api("POST", f"{group.path}/participants", {"username": "bob", "amount": 1})
    assert problem(answer, 422, "already_taken")["detail"] == f'username "bob" is taken by participant {group.bob}'
    answer = api("PATCH", f"{group.path}/participants/{group.alice}", {"username": "bob"})
    assert problem(answer, 422, "already_taken")["detail"] == f'username "bob" is taken by participant {group.bob}'
    answer = api("POST", "/api/groups", {"name": group.name})
    expected = f"name {json.dumps(group.name)} is taken by group {group.id}"
    assert problem(answer, 422, "already_taken")["detail"] == expected
