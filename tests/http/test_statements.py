"""Statements over HTTP: their shape, their period, their pages."""

from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

from tests.http.client import problem

TICK = timedelta(microseconds=1)


@pytest.fixture
def transfer(api, group):
    """Move an amount from bob to alice; the entry."""

    def move(amount: int, **members: object) -> dict:
        body = {"from": group.bob, "to": group.alice, "amount": amount} | members
        answer = api("POST", f"{group.path}/transfer", body)
        return api("GET", f"{group.path}/entries/{answer.headers['Ledger-Entry']}").data

    return move


@pytest.fixture
def path(group):
    return f"{group.path}/participants/{group.bob}/statement"


def test_a_statement_shows_each_entry_with_its_counterparty(api, group, transfer, path):
    sent = transfer(30, metadata={"order": 17})
    answer = api("GET", f"{path}?from={quote(sent['created_at'])}")
    assert answer.status == 200
    assert answer.json == {
        "data": {
            "username": "bob",
            "id": group.bob,
            "group_id": group.id,
            "opening_balance": 100,
            "lines": [
                {
                    "id": sent["id"],
                    "kind": "transfer",
                    "created_at": sent["created_at"],
                    "counterparty_id": group.alice,
                    "counterparty_username": "alice",
                    "change": -30,
                    "balance": 70,
                    "metadata": {"order": 17},
                }
            ],
            "closing_balance": 70,
        }
    }
    assert list(answer.data) == ["username", "id", "group_id", "opening_balance", "lines", "closing_balance"]
    assert list(answer.data["lines"][0]) == [
        *["id", "kind", "created_at", "counterparty_id", "counterparty_username", "change", "balance", "metadata"]
    ]


def test_an_exit_and_a_join_have_no_counterparty(api, group, path):
    api("DELETE", f"{group.path}/participants/{group.bob}")
    joined, left = api("GET", path).data["lines"]
    assert (joined["kind"], joined["change"], joined["balance"]) == ("join", 100, 100)
    assert (left["kind"], left["change"], left["balance"]) == ("exit", -100, 0)
    assert {line[name] for line in (joined, left) for name in ("counterparty_id", "counterparty_username")} == {None}


def test_from_is_inclusive_and_to_exclusive(api, transfer, path):
    time = datetime.fromisoformat(transfer(30)["created_at"])

    def shown(query: str) -> tuple:
        data = api("GET", f"{path}?{query}").data
        return data["opening_balance"], [line["change"] for line in data["lines"]], data["closing_balance"]

    at, after = quote(time.isoformat()), quote((time + TICK).isoformat())
    assert shown(f"to={at}") == (0, [100], 100)
    assert shown(f"to={after}") == (0, [100, -30], 70)
    assert shown(f"from={at}") == (100, [-30], 70)
    assert shown(f"from={after}") == (70, [], 70)
    assert shown(f"from={at}&to={at}") == (100, [], 100)
    assert shown("from=2000-01-01T00:00:00Z&to=2000-02-01T00:00:00Z") == (0, [], 0)
    assert shown("from=2999-01-01T00:00:00Z") == (70, [], 70)
    assert shown("to=2999-01-01T00:00:00Z") == (0, [100, -30], 70)


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
def test_pages_follow_each_other_to_the_end(api, transfer, path, limit):
    for amount in range(1, 6):
        transfer(amount)
    whole = api("GET", path).data
    seen: list[dict] = []
    following = f"{path}?limit={limit}&to=2999-01-01T00:00:00Z"
    while following:
        answer = api("GET", following)
        assert answer.data | {"lines": whole["lines"]} == whole
        assert 0 < len(answer.data["lines"]) <= limit
        seen += answer.data["lines"]
        following = answer.json.get("next")
        assert answer.headers.get("Link") == (f'<{following}>; rel="next"' if following else None)
    assert seen == whole["lines"]
    assert sum(line["change"] for line in seen) == whole["closing_balance"] - whole["opening_balance"] == 85


def test_amounts_are_strings_when_preferred(api, group, transfer, path):
    transfer(30)
    answer = api("GET", path, headers={"Prefer": "amounts=string"})
    assert answer.headers["Preference-Applied"] == "amounts=string"
    data = answer.data
    assert (data["opening_balance"], data["closing_balance"]) == ("0", "70")
    assert [(line["change"], line["balance"]) for line in data["lines"]] == [("100", "100"), ("-30", "70")]
    assert [line["id"] for line in data["lines"]] == [line["id"] for line in api("GET", path).data["lines"]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=2026-02-01T00:00:00Z&to=2026-01-31T23:59:59Z", "to"),
        ("from=yesterday", "from"),
        ("to=2026-01-01", "to"),
        ("to=7", "to"),
        ("since=2026-01-01T00:00:00Z", "since"),
        ("before=1", "before"),
        ("order=desc", "order"),
        ("after=abc", "after"),
        (f"after={2**62}", "after"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("from=2026-01-01T00:00:00Z&from=2026-01-01T00:00:00Z", "from"),
    ],
)
def test_an_invalid_period_or_page_is_refused(api, path, query, field):
    assert list(problem(api("GET", f"{path}?{query}"), 422, "invalid_value")["errors"]) == [field]


def test_a_participant_of_another_group_is_not_found(api, group, other):
    problem(api("GET", f"{group.path}/participants/{other.bob}/statement"), 404, "not_found")
    problem(api("GET", f"{group.path}/participants/{2**62}/statement"), 404, "not_found")
    problem(api("GET", f"/api/groups/{2**62}/participants/{group.bob}/statement"), 404, "not_found")
    problem(api("GET", f"{group.path}/participants/abc/statement"), 404, "not_found")
