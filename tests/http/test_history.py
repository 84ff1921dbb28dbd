"""Entries over HTTP: their shape, pages both ways, filters, metadata, the past, reversals and settlements."""

import json
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest

from tests.http.client import problem

ENTRY = [
    *["id", "group_id", "kind", "from", "to", "amount", "from_amount", "to_amount", "created_at"],
    *["metadata", "reverses", "reversed_by", "reference", "settled_at"],
]


@pytest.fixture
def transfer(api, group):
    """Move an amount from bob to alice; the id of the entry."""

    def move(amount: int = 5, **members: object) -> int:
        body = {"from": group.bob, "to": group.alice, "amount": amount} | members
        answer = api("POST", f"{group.path}/transfer", body)
        assert answer.status == 200, answer.body
        return int(answer.headers["Ledger-Entry"])

    return move


def ids(answer) -> list[int]:
    assert answer.status == 200, answer.body
    return [entry["id"] for entry in answer.data]


def test_an_entry_shows_both_sides_and_their_balances(api, group, transfer):
    moved = transfer(30, metadata={"order": 17})
    entry = api("GET", f"{group.path}/entries/{moved}").data
    assert list(entry) == ENTRY
    assert entry | {"created_at": None} == dict.fromkeys(ENTRY) | {
        "id": moved,
        "group_id": group.id,
        "kind": "transfer",
        "from": group.bob,
        "to": group.alice,
        "amount": 30,
        "from_amount": 70,
        "to_amount": 130,
        "metadata": {"order": 17},
    }
    assert entry["created_at"].endswith("+00:00")
    assert api("GET", f"{group.path}/entries?after={moved - 1}&limit=1").data == [entry]
    assert api("GET", f"{group.path}/participants/{group.bob}/entries?order=desc&limit=1").data == [entry]


def test_an_unknown_entry_or_one_of_another_group_is_not_found(api, group, other, transfer):
    for path in (f"{other.path}/entries/{transfer()}", f"{group.path}/entries/{2**62}", f"{group.path}/entries/abc"):
        problem(api("GET", path), 404, "not_found")
    problem(api("GET", f"/api/groups/{2**62}/entries"), 404, "not_found")
    problem(api("GET", f"{group.path}/participants/{other.bob}/entries"), 404, "not_found")


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("whose", ["", "/participants/{bob}"])
def test_pages_follow_each_other_in_both_directions(api, group, transfer, limit, order, whose):
    moved = [transfer(1) for _ in range(5)]
    path = f"{group.path}{whose.format(bob=group.bob)}/entries"
    everything = ids(api("GET", f"{path}?order={order}"))
    assert everything[-5:] == moved or everything[:5] == moved[::-1]
    seen: list[int] = []
    following = f"{path}?order={order}&limit={limit}&since=2000-01-01T00:00:00Z"
    while following:
        answer = api("GET", following)
        seen += ids(answer)
        following = answer.json.get("next")
        assert answer.headers.get("Link") == (f'<{following}>; rel="next"' if following else None)
    assert seen == everything


def test_a_page_lies_between_after_and_before(api, group, transfer):
    first, second, third, fourth = (transfer(1) for _ in range(4))
    path = f"{group.path}/entries?after={first}&before={fourth}"
    assert ids(api("GET", path)) == [second, third]
    page = api("GET", f"{path}&order=desc&limit=1")
    assert ids(page) == [third]
    assert ids(api("GET", page.json["next"])) == [second]


def test_the_filters_of_a_groups_entries_select(api, group, transfer):
    moved = transfer(1, metadata={"order": {"number": 17, "lines": [1, 2]}})
    left = int(api("DELETE", f"{group.path}/participants/{group.alice}").headers["Ledger-Entry"])
    path = f"{group.path}/entries"
    assert len(ids(api("GET", f"{path}?kind=join"))) == 2
    assert ids(api("GET", f"{path}?kind=transfer")) == [moved]
    assert ids(api("GET", f"{path}?kind=exit")) == ids(api("GET", f"{path}?settled=false")) == [left]
    assert ids(api("GET", f"{path}?kind=exit&settled=true")) == []
    time = quote(api("GET", f"{path}/{moved}").data["created_at"])
    assert ids(api("GET", f"{path}?since={time}")) == [moved, left]
    assert moved not in ids(api("GET", f"{path}?until={time}"))
    contained = quote(json.dumps({"order": {"number": 17}}))
    assert ids(api("GET", f"{path}?metadata={contained}")) == [moved]
    assert ids(api("GET", f"{path}?metadata={quote(json.dumps({'order': 17}))}")) == []
    # The history of participants who left and of removed groups is kept.
    assert left in ids(api("GET", f"{group.path}/participants/{group.alice}/entries"))
    api("DELETE", f"{group.path}/participants/{group.bob}")
    assert api("DELETE", group.path).status == 204
    assert moved in ids(api("GET", path))


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("kind=loan", "kind"),
        ("kind=", "kind"),
        ("settled=maybe", "settled"),
        ("settled=true&kind=join", "settled"),
        ("order=up", "order"),
        ("since=yesterday", "since"),
        ("since=2026-02-30T00:00:00Z", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("since=2026-01-01", "since"),
        ("until=2026-01-01T25:00:00Z", "until"),
        ("until=1", "until"),
        ("after=abc", "after"),
        ("before=0", "before"),
        ("before=-1", "before"),
        (f"after={2**62}", "after"),
        (f"before={2**62}", "before"),
        ("metadata=17", "metadata"),
        ("metadata=[1]", "metadata"),
        ("metadata={", "metadata"),
        ("metadata=%7B%22a%22:%22%5Cu0000%22%7D", "metadata"),
        ("limit=0", "limit"),
        ("at=1", "at"),
        ("kind=join&kind=exit", "kind"),
    ],
)
def test_a_bad_filter_is_refused(api, group, query, field):
    assert list(problem(api("GET", f"{group.path}/entries?{query}"), 422, "invalid_value")["errors"]) == [field]


def test_a_participants_entries_are_not_filtered_by_settlement(api, group):
    answer = api("GET", f"{group.path}/participants/{group.bob}/entries?settled=true")
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["settled"]


@pytest.mark.parametrize("spelling", ["{z}", "{z}".lower(), "{offset}", "{unescaped}", "{nanoseconds}"])
def test_a_time_may_be_spelled_as_rfc_3339_allows(api, group, transfer, spelling):
    moved = transfer()
    time = api("GET", f"{group.path}/entries/{moved}").data["created_at"].removesuffix("+00:00")
    time += "" if "." in time else ".0"
    given = {
        "z": f"{time}Z",
        "offset": quote(f"{time}+00:00"),
        "unescaped": f"{time}+00:00",
        "nanoseconds": f"{time:0<26}999Z",
    }
    assert ids(api("GET", f"{group.path}/entries?since={spelling.format(**given)}")) == [moved]


@pytest.mark.parametrize("offset", ["-15:59", "-16:00", "-23:59", "+15:59", "+16:00", "+23:59"])
def test_a_time_may_have_every_offset_of_rfc_3339(api, group, transfer, offset):
    moved = transfer()
    time = datetime.fromisoformat(api("GET", f"{group.path}/entries/{moved}").data["created_at"])
    zone = datetime.fromisoformat(f"2026-01-01T00:00:00{offset}").tzinfo
    for since, found in ((time, [moved]), (time + timedelta(microseconds=1), [])):
        spelled = quote(since.astimezone(zone).isoformat(timespec="microseconds"))
        assert ids(api("GET", f"{group.path}/entries?since={spelled}")) == found


@pytest.mark.parametrize(
    "second",
    ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.999Z", "2016-12-31T15:59:60-08:00", "2017-01-01T05:29:60+05:30"],
)
def test_a_leap_second_is_a_time(api, group, transfer, second):
    moved = transfer()
    assert moved in ids(api("GET", f"{group.path}/entries?since={quote(second)}"))
    assert ids(api("GET", f"{group.path}/entries?until={quote(second)}")) == []


@pytest.mark.parametrize("second", ["2016-12-31T23:58:60Z", "2016-12-31T22:59:60Z", "2016-12-31T23:59:61Z"])
def test_another_minute_has_no_leap_second(api, group, second):
    answer = api("GET", f"{group.path}/entries?since={second}")
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["since"]


def test_the_past_is_shown_by_entry_and_by_time(api, group, transfer):
    first, second = transfer(30), transfer(20)
    time = quote(api("GET", f"{group.path}/entries/{first}").data["created_at"])
    api("DELETE", f"{group.path}/participants/{group.bob}")
    bob = f"{group.path}/participants/{group.bob}"
    problem(api("GET", bob), 404, "not_found")
    for moment, amount in ((first, 70), (second, 50), (time, 70)):
        assert api("GET", f"{bob}?at={moment}").data == {
            "username": "bob",
            "id": group.bob,
            "group_id": group.id,
            "amount": amount,
        }
        assert api("GET", f"{group.path}/total?at={moment}").data == {"group_total": 200}
    assert api("GET", f"{group.path}/total").data == {"group_total": 150}


@pytest.mark.parametrize("path", ["/total", "/participants/{bob}"])
@pytest.mark.parametrize(
    ("at", "status", "code"),
    [
        ("now", 422, "invalid_value"),
        ("", 422, "invalid_value"),
        ("0", 422, "invalid_value"),
        ("2999-01-01T00:00:00Z", 422, "invalid_value"),
        ("1999-01-01T00:00:00Z", 404, "not_found"),
        (str(2**62), 404, "not_found"),
    ],
)
def test_an_invalid_moment_is_refused(api, group, path, at, status, code):
    refusal = problem(api("GET", f"{group.path}{path.format(bob=group.bob)}?at={at}"), status, code)
    if status == 422:
        assert list(refusal["errors"]) == ["at"]


@pytest.mark.parametrize(
    "metadata",
    [
        "{}",
        '{"a": 12345678901234567890123456789012345678901234567890}',
        '{"a": 1.50, "b": [true, false, null, {"c": "Ж ☃ \\" \\\\ \\n"}]}',
        '{"a": 1e100}',
        '{"": {"": ""}}',
    ],
)
def test_metadata_are_returned_unchanged(api, group, metadata):
    body = f'{{"from": {group.bob}, "to": {group.alice}, "amount": 1, "metadata": {metadata}}}'
    entry = api("POST", f"{group.path}/transfer", body).headers["Ledger-Entry"]
    shown = json.loads(api("GET", f"{group.path}/entries/{entry}").body, parse_int=str, parse_float=str)["data"]
    assert shown["metadata"] == json.loads(metadata.replace("1e100", f"1{'0' * 100}"), parse_int=str, parse_float=str)


def test_joins_and_exits_take_metadata_too(api, group):
    path = f"{group.path}/participants"
    joined = api("POST", path, {"username": "carol", "amount": 1, "metadata": {"transaction": "0x1"}})
    carol = joined.data["id"]
    left = api("DELETE", f"{path}/{carol}", {"metadata": {"address": "0x2"}})
    assert [entry["metadata"] for entry in api("GET", f"{path}/{carol}/entries").data] == [
        {"transaction": "0x1"},
        {"address": "0x2"},
    ]
    assert (joined.status, left.data) == (201, {"final_amount": 1})
    nothing = api(
        "POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 1, "metadata": None}
    )
    assert nothing.status == 200


@pytest.mark.parametrize(
    "metadata",
    [
        '"text"',
        '"{}"',
        "17",
        "[]",
        "true",
        '{"a": "\\u0000"}',
        '{"\\ud800": 1}',
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 2}}',
        '{"a": 1e5000}',
        f'{{"a": 1{"0" * 200_000}}}',
        f'{{"a": [0.{"0" * 200_000}1]}}',
        '{"a": 1e999999999}',
        '{"a": 1e-99999}',
        '{"a": 1e4096}',
        '{"a": "' + "x" * 4096 + '"}',
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_metadata_that_cannot_be_stored_are_refused(api, group, metadata):
    body = f'{{"from": {group.bob}, "to": {group.alice}, "amount": 1, "metadata": {metadata}}}'
    answer = api("POST", f"{group.path}/transfer", body)
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["metadata"]


@pytest.mark.parametrize(("depth", "status"), [(300, 422), (7_000, 400), (100_000, 413)])
@pytest.mark.usefixtures("unchanged")
def test_metadata_that_are_nested_too_deeply_are_refused(api, group, depth, status):
    metadata = f'{{"a": {"[" * depth}{"]" * depth}}}'
    body = f'{{"from": {group.bob}, "to": {group.alice}, "amount": 1, "metadata": {metadata}}}'
    assert api("POST", f"{group.path}/transfer", body).status == status


@pytest.mark.usefixtures("unchanged")
def test_an_exit_refuses_an_invalid_body(api, group):
    path = f"{group.path}/participants/{group.bob}"
    assert list(problem(api("DELETE", path, {"amount": 5}), 422, "invalid_value")["errors"]) == ["amount"]
    problem(api("DELETE", path, "[]"), 400, "invalid_json")
    problem(api("DELETE", path, "{}", {"Content-Type": "text/plain"}), 415, "unsupported_media_type")


def test_a_reversal_moves_the_amount_back_once(api, group, transfer):
    moved = transfer(30)
    path = f"{group.path}/entries/{moved}"
    answer = api("POST", f"{path}/reversal")
    reversal = answer.data
    assert answer.status == 201
    assert list(reversal) == ENTRY
    assert answer.headers["Location"] == f"{group.path}/entries/{reversal['id']}"
    assert answer.headers["Ledger-Entry"] == str(reversal["id"])
    assert (reversal["from"], reversal["to"], reversal["amount"]) == (group.alice, group.bob, 30)
    assert (reversal["reverses"], api("GET", path).data["reversed_by"]) == (moved, reversal["id"])
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 100
    assert problem(api("POST", f"{path}/reversal"), 409, "already_reversed")["sqlstate"] == "LG007"
    assert api("GET", f"{group.path}/participants/{group.bob}").data["amount"] == 100


def test_a_reversal_is_refused_where_a_transfer_would_be(api, group, transfer):
    moved = transfer(30)
    joined = ids(api("GET", f"{group.path}/entries?kind=join&limit=1"))[0]
    problem(api("POST", f"{group.path}/entries/{joined}/reversal"), 422, "invalid_value")
    problem(api("POST", f"{group.path}/entries/{2**62}/reversal"), 404, "not_found")
    api("POST", f"{group.path}/transfer", {"from": group.alice, "to": group.bob, "amount": 130})
    problem(api("POST", f"{group.path}/entries/{moved}/reversal"), 403, "insufficient_funds")
    api("DELETE", f"{group.path}/participants/{group.alice}")
    problem(api("POST", f"{group.path}/entries/{moved}/reversal"), 404, "not_found")


def test_an_exit_is_settled_once(api, group):
    left = int(api("DELETE", f"{group.path}/participants/{group.bob}").headers["Ledger-Entry"])
    path = f"{group.path}/entries/{left}/settlement"
    assert ids(api("GET", f"{group.path}/entries?kind=exit&settled=false")) == [left]
    first = api("POST", path, {"reference": "0x5f"})
    again = api("POST", path, {"reference": "0x5f"})
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (None, "true")
    assert first.data["reference"] == "0x5f"
    assert first.data["settled_at"] >= first.data["created_at"]
    refusal = problem(api("POST", path, {"reference": "0x60"}), 409, "already_settled")
    assert (refusal["sqlstate"], list(refusal["errors"])) == ("LG008", ["reference"])
    assert ids(api("GET", f"{group.path}/entries?kind=exit&settled=false")) == []
    assert ids(api("GET", f"{group.path}/entries?settled=true")) == [left]


@pytest.mark.parametrize("body", ["{}", '{"reference": ""}', '{"reference": 5}', '{"reference": "a\\nb"}'])
def test_a_settlement_needs_a_reference(api, group, body):
    left = api("DELETE", f"{group.path}/participants/{group.bob}").headers["Ledger-Entry"]
    answer = api("POST", f"{group.path}/entries/{left}/settlement", body)
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["reference"]


def test_amounts_may_be_requested_as_strings(api, group, transfer):
    transfer(30)
    answer = api("GET", f"{group.path}/entries?order=desc&limit=1", headers={"Prefer": "amounts=string"})
    assert [answer.data[0][name] for name in ("amount", "from_amount", "to_amount")] == ["30", "70", "130"]
    assert answer.headers["Preference-Applied"] == "amounts=string"
