"""Whole lists as CSV and NDJSON: their rows, which format is chosen, formulas, and what happens to a stream."""

import csv
import io
import json
from urllib.parse import quote

import pytest

from api.http.formats import CSV, JSON, NDJSON, chosen
from api.routes import ENTRY, PARTICIPANT, STATEMENT_LINE
from tests.http.client import problem
from tests.support import create, join

HEADERS = {
    "participants": [member.name for member in PARTICIPANT],
    "entries": [member.name for member in ENTRY],
    "statement": [member.name for member in STATEMENT_LINE],
}
HOSTILE = [
    '=HYPERLINK("http://x.invalid","1")',
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "＝1+1",
    "'t Hooft",
    "'",
    'a "quoted", name; with\\ all',
    ",",
    '"',
    "🦄 Ж <script>alert(1)</script>",
    " =1",
]
FORMULAS = set(HOSTILE[:7])


def get(api, path, media_type, **headers):
    return api("GET", path, headers={"Accept": media_type} | headers)


def rows(answer) -> list[list[str]]:
    """The lines of a CSV answer, which must be as RFC 4180 says."""
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    text = answer.body.decode()
    assert text.endswith("\r\n")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def lines(answer) -> list[dict]:
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == NDJSON
    assert answer.body == b"" or answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.splitlines()]


def as_cells(row: dict) -> list[str]:
    """A row of JSON as CSV has it, for values that begin no formula."""
    return [
        "" if value is None else json.dumps(value) if isinstance(value, dict) else str(value) for value in row.values()
    ]


@pytest.fixture
def moved(api, group) -> None:
    """A transfer with metadata, a deposit, an exit that is settled."""
    metadata = {"note": '=1+1, "quoted"\nнет', "n": 10}
    body = {"from": group.bob, "to": group.alice, "amount": 30, "metadata": metadata}
    assert api("POST", f"{group.path}/transfer", body).status == 200
    api("POST", f"{group.path}/participants/{group.bob}/deposits", {"amount": "0x10"})
    left = api("DELETE", f"{group.path}/participants/{group.alice}").headers["Ledger-Entry"]
    assert api("POST", f"{group.path}/entries/{left}/settlement", {"reference": "=cmd|' /C calc'!A0"}).status == 200


@pytest.mark.usefixtures("moved")
@pytest.mark.parametrize(
    "whose", ["participants", "entries", "participants/{bob}/entries", "participants/{alice}/entries"]
)
@pytest.mark.parametrize("query", ["", "?order=desc", "?limit=2", "?limit=1000"])
def test_the_rows_are_those_of_json(api, group, whose, query):
    path = f"{group.path}/{whose.format(bob=group.bob, alice=group.alice)}"
    if whose == "participants" and "order" in query:
        query = "?after=0"
    shown = api("GET", f"{path}{query}")
    header, *cells = rows(get(api, f"{path}{query}", CSV))
    assert header == HEADERS[whose.rpartition("/")[2]]
    expected = [as_cells(row) for row in shown.data]
    reference = header.index("reference") if "reference" in header else None
    for row in expected:
        if reference is not None and row[reference].startswith("="):
            row[reference] = f"'{row[reference]}"
    assert [[cell.replace('": ', '":').replace('", "', '","') for cell in row] for row in cells] == [
        [cell.replace('": ', '":').replace('", "', '","') if cell.startswith("{") else cell for cell in row]
        for row in decoded(expected)
    ]
    assert lines(get(api, f"{path}{query}", NDJSON)) == shown.data


def decoded(expected: list[list[str]]) -> list[list[str]]:
    """JSON's escapes of letters as PostgreSQL writes them: as they are."""
    return [
        [json.dumps(json.loads(cell), ensure_ascii=False) if cell.startswith("{") else cell for cell in row]
        for row in expected
    ]


@pytest.mark.parametrize("media_type", [CSV, NDJSON])
def test_a_limit_asks_for_one_page_and_the_link_for_the_next(api, group, media_type):
    read = rows if media_type == CSV else lines
    answer = get(api, f"{group.path}/participants?limit=1", media_type)
    following = f"{group.path}/participants?limit=1&after={group.alice}"
    assert answer.headers["Link"] == f'<{following}>; rel="next"'
    assert len(read(answer)) == 1 + (media_type == CSV)
    last = get(api, following, media_type)
    assert len(read(last)) == 1 + (media_type == CSV)
    assert "Link" not in last.headers


def test_text_that_begins_a_formula_gets_an_apostrophe(api, group):
    path = f"{group.path}/participants"
    for name in HOSTILE:
        assert api("POST", path, {"username": name, "amount": 0}).status == 201
    _, *cells = rows(get(api, path, CSV))
    shown = [row[0] for row in cells][2:]
    assert shown == [f"'{name}" if name in FORMULAS else name for name in HOSTILE]
    assert not any(name.startswith(tuple("=+-@＝\t\r")) for name in shown)
    assert [row["username"] for row in lines(get(api, path, NDJSON))][2:] == HOSTILE
    raw = get(api, path, CSV).body.decode()
    assert '\r\n"\'=HYPERLINK(""http://x.invalid"",""1"")",' in raw
    joined = api("GET", f"{path}?username={quote('-1+1')}").data[0]["id"]
    api("POST", f"{group.path}/transfer", {"from": group.bob, "to": joined, "amount": 5})
    (line,) = [row for row in rows(get(api, f"{path}/{group.bob}/statement", CSV)) if row[1] == "transfer"]
    assert line[4:7] == ["'-1+1", "-5", "95"]


def test_control_characters_of_old_names_stay_in_their_cells(api, group, admin):
    """No function stores them any more."""
    names = ["\t=1", "\r=1", "\n=1", "a\r\nb", "a\tb"]
    for name in names:
        joined = join(admin, group.id, f"p{names.index(name)}", 0)
        with admin.transaction():
            admin.execute("set local session_replication_role = replica")
            admin.execute("alter table ledger.participants drop constraint if exists participants_username_is_valid")
            admin.execute("update ledger.participants set username = %s where id = %s", [name, joined])
    _, *cells = rows(get(api, f"{group.path}/participants", CSV))
    assert [row[0] for row in cells][2:] == [f"'{name}" if name[0] in "\t\r\n" else name for name in names]


def test_a_statement_begins_and_ends_with_its_balances(api, group):
    path = f"{group.path}/participants/{group.bob}/statement"
    body = {"from": group.bob, "to": group.alice, "amount": 30, "metadata": {"order": 17}}
    entry = api("POST", f"{group.path}/transfer", body).headers["Ledger-Entry"]
    time = api("GET", f"{group.path}/entries/{entry}").data["created_at"]
    header, opening, line, closing = rows(get(api, f"{path}?from={quote(time)}&to=2999-01-01T00:00:00Z", CSV))
    assert header == HEADERS["statement"]
    assert opening == ["", "opening", time, "", "", "", "100", ""]
    assert line == [entry, "transfer", time, str(group.alice), "alice", "-30", "70", '{"order": 17}']
    assert closing == ["", "closing", "2999-01-01T00:00:00+00:00", "", "", "", "70", ""]
    _, first, *_, last = rows(get(api, path, CSV))
    assert (first[1:3], last[1:3]) == (["opening", ""], ["closing", ""])


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 1000])
def test_the_pages_of_a_statement_are_the_statement(api, group, limit):
    path = f"{group.path}/participants/{group.bob}/statement"
    for amount in (1, 2):
        api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": amount})
    header, *whole = rows(get(api, path, CSV))
    assert [row[1] for row in whole] == ["opening", "join", "transfer", "transfer", "closing"]
    seen: list[list[str]] = []
    following = f"{path}?limit={limit}"
    while following:
        page = get(api, following, CSV)
        first, *cells = rows(page)
        assert first == header
        seen += cells
        following = page.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert seen == whole


def test_an_empty_list_has_only_its_header_line(api, observer):
    empty = create(observer, "Empty export")
    assert rows(get(api, f"/api/groups/{empty}/participants", CSV)) == [HEADERS["participants"]]
    assert get(api, f"/api/groups/{empty}/participants", NDJSON).body == b""


def test_amounts_are_exact(api, group):
    path = f"{group.path}/participants"
    api("POST", path, {"username": "whale", "amount": str(2**256 - 1)})
    assert rows(get(api, path, CSV, Prefer="amounts=string"))[-1][3] == str(2**256 - 1)
    assert f'"amount":{2**256 - 1}}}'.encode() in get(api, path, NDJSON).body
    preferred = get(api, path, NDJSON, Prefer="amounts=string")
    assert preferred.headers["Preference-Applied"] == "amounts=string"
    assert lines(preferred)[-1]["amount"] == str(2**256 - 1)


CHOICES = {
    "": JSON,
    "*/*": JSON,
    "application/json": JSON,
    "text/csv": CSV,
    "TEXT/CSV": CSV,
    "text/csv; charset=utf-8": CSV,
    "text/csv;q=0.001": CSV,
    "text/*": CSV,
    "application/*": JSON,
    "application/x-ndjson": NDJSON,
    "text/csv, */*": CSV,
    "text/csv, */*;q=0.1": CSV,
    "*/*, text/csv;q=0.9": JSON,
    "text/csv, application/json": JSON,
    "text/csv;q=0.5, application/json;q=0.4": CSV,
    "text/csv;q=0.5 , application/x-ndjson; q=0.8": NDJSON,
    "text/csv;q=0, */*": JSON,
    "application/json;q=0, */*": NDJSON,
    "application/json;q=0, application/x-ndjson;q=0, */*": CSV,
    "text/csv;q=0": JSON,
    "*/*;q=0": JSON,
    "image/png": JSON,
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": JSON,
    "text/csv;q=2": JSON,
    "text/csv;q=nonsense": JSON,
    "text/csv;q=": JSON,
    "text/csvx": JSON,
    ",,;;=,text/csv": CSV,
    "nonsense": JSON,
    "text/html, text/*;q=0.5": CSV,
}


@pytest.mark.parametrize(("accept", "media_type"), CHOICES.items(), ids=CHOICES)
def test_the_format_is_the_one_that_the_client_prefers(api, group, accept, media_type):
    # The last two in the order in which the service offers them.
    expected = CSV if accept == "application/json;q=0, */*" else media_type
    answer = api("GET", f"{group.path}/participants", headers={"Accept": accept})
    assert answer.headers["Content-Type"].partition(";")[0] == expected
    assert {token.strip() for token in answer.headers["Vary"].split(",")} == {"Accept", "Prefer"}


def test_the_qualities_of_several_fields_are_one_list():
    assert chosen(["text/csv;q=0.1", "application/x-ndjson"], (JSON, CSV, NDJSON)) == NDJSON


def test_a_list_without_the_format_stays_json(api, group):
    for path in ("/api/groups", f"{group.path}", f"{group.path}/total", "/api/entries?limit=1"):
        assert get(api, path, CSV).headers["Content-Type"] == JSON
    assert get(api, f"{group.path}/participants/{group.bob}/statement", NDJSON).headers["Content-Type"] == JSON


@pytest.mark.parametrize("media_type", [CSV, NDJSON])
def test_a_refusal_is_a_problem_in_every_format(api, group, media_type):
    problem(get(api, f"/api/groups/{2**62}/participants", media_type), 404, "not_found")
    problem(get(api, f"{group.path}/entries?kind=loan", media_type), 422, "invalid_value")
    problem(get(api, f"{group.path}/entries?limit=0", media_type), 422, "invalid_value")
