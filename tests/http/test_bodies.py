"""Reading bodies: within limits, and lists line by line, with the same result as reading them at once."""

import asyncio
import json
import socket
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.http import bodies as bodies_module
from api.http.bodies import decode_value
from api.http.values import DECODER, Lines, Members, line_to_json, read_lines
from api.problems import Problem
from api.routes import ROUTES
from tests.http.client import problem

(MANY,) = (route for route in ROUTES if route.lines == "transfers")
MIB = 1 << 20


def outcome(decode) -> object:
    try:
        return decode()
    except (ValueError, Problem):
        return "not JSON"


def at_once(text: str) -> object:
    """The body decoded in one go, its lines spelled afterwards."""
    value = DECODER.decode(text)
    if isinstance(value, Members) and isinstance(value.get("transfers"), list):
        lines = Lines()
        for line in value["transfers"]:
            lines.add(line)
        value["transfers"] = lines
    return value


def line_by_line(text: str) -> object:
    value = asyncio.run(decode_value(MANY, text.encode()))
    if isinstance(value, Members) and isinstance(value.get("transfers"), list):
        value["transfers"] = at_once(json.dumps({"transfers": value["transfers"]}))["transfers"]
    return value


SPACE = st.sampled_from(["", " ", "\n", "\t \r\n", " " * 30])
VALUES = st.sampled_from(
    ['{"from": 1, "to": 2, "amount": "3"}', "{}", "[]", "1", "1.50", "-", "nul", "null", '"]"', '"', "1e5000"]
)
PIECES = st.sampled_from(["{", "}", "[", "]", ",", ":", '"transfers"', '"x"', "\x00", "]}"])


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """Return a list of lines among text that may surround it, and sometimes text that may not."""
    space = lambda: draw(SPACE)  # noqa: E731
    lines = draw(st.lists(VALUES, max_size=4))
    parts = [space(), "{", space(), '"transfers"', space(), ":", space(), "[", space()]
    for number, line in enumerate(lines):
        parts += [space(), "," if number else "", space(), line]
    parts += [
        space(),
        "]",
        space(),
        *draw(st.sampled_from([["}"], [",", '"x"', ":", "1", "}"], [',"transfers":[1]}']])),
        space(),
    ]
    for _ in range(draw(st.integers(0, 2))):
        parts[draw(st.integers(0, len(parts) - 1))] = draw(PIECES)
    return "".join(parts)


@settings(max_examples=1000, deadline=None)
@given(bodies())
def test_decoding_lines_one_by_one_equals_decoding_the_whole_body(text):
    expected, found = outcome(lambda: at_once(text)), outcome(lambda: line_by_line(text))
    if isinstance(expected, Members) and "transfers" in expected.repeated:
        # Which one counts does not matter: it must be given once.
        assert isinstance(found, Members)
        assert found.repeated == expected.repeated
    else:
        assert found == expected


@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bodies())
def test_decoding_lines_is_the_same_in_pieces_of_every_size(monkeypatch, text):
    monkeypatch.setattr(bodies_module, "MAX_LINE", 300)
    test_decoding_lines_one_by_one_equals_decoding_the_whole_body.hypothesis.inner_test(text)


def test_a_line_may_be_as_long_as_metadata_that_are_all_escaped():
    line = '{"from": 1, "to": 2, "amount": 3, "metadata": {"a": "' + r"\u00e9" * 16_000 + '"}}'
    text = f'{{"transfers": [{line}, {line},{" " * 200_000}{line}]}}'
    lines = asyncio.run(decode_value(MANY, text.encode()))["transfers"]
    assert (len(lines), lines.errors) == (3, {})


ONES = ",".join("1" * 200_000)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"transfers": [{{}}], "x": [{ONES}]}}',
        f'{{"transfers": [{{"metadata": [{ONES}]}}]}}',
        f'{{"transfers": [{{}}, {{"from": [{ONES}]}}, {{}}]}}',
        f'{{"transfers": [{{}}{" " * 200_000}, {{}}]}}',
        f'{{"transfers": ["{"x" * 200_000}"]}}',
    ],
    ids=["behind the list", "a line", "a line amid others", "white space", "a string"],
)
def test_a_value_too_long_to_decode_at_once_is_refused(body):
    with pytest.raises(Problem) as refused:
        asyncio.run(decode_value(MANY, body.encode()))
    assert refused.value.code == "body_too_large"


def test_the_rest_of_a_list_that_is_too_long_is_not_decoded():
    value = asyncio.run(decode_value(MANY, b'{"transfers": [' + b"{}," * 10_100 + b"}}}}"))
    reasons, spelled = read_lines(value["transfers"])
    assert (reasons, spelled) == ({"": "must have 1 to 10000 lines"}, None)


@pytest.mark.parametrize(
    ("line", "spelled"),
    [
        ('{"from": 1, "to": "2", "amount": 3}', '{"from":1,"to":2,"amount":3}'),
        ('{"from": "0", "to": "007", "amount": 0}', '{"from":0,"to":7,"amount":0}'),
        ('{"from": "", "to": "\u0663", "amount": "\u00b2"}', '{"from":"","to":"٣","amount":"²"}'),
        (f'{{"amount": "{"9" * 78}", "from": "{"9" * 79}"}}', f'{{"amount":{"9" * 78},"from":"{"9" * 79}"}}'),
        ('{"from": 1e2, "to": 2.0, "amount": -0}', '{"from":"1e2","to":"2.0","amount":"-0"}'),
        ('{"amount": "0x10"}', '{"amount":"16"}'),
        ('{"amount": "0x1g", "from": "0x10"}', '{"amount":"0x1g","from":"0x10"}'),
        ('{"from": null, "to": [1], "amount": {"a": 1}}', '{"from":null,"to":"","amount":""}'),
        ('{"from": true, "x": [1, 2, 3]}', '{"from":"","x":null}'),
        ('{"metadata": {"a": [1.50, {"b": "\\u00e4"}]}}', '{"metadata":{"a":[1.50,{"b":"ä"}]}}'),
        ('{"amount": ' + "1" * 5000 + "}", f'{{"amount":"{"1" * 5000}"}}'),
        (f'{{"amount": "{"0" * 5000}7"}}', '{"amount":"7"}'),
        (f'{{"amount": "{"x" * 5000}"}}', '{"amount":""}'),
        ("[1, 2]", "null"),
        ('"text"', "null"),
    ],
)
def test_a_line_reaches_sql_with_its_errors(line, spelled):
    assert line_to_json(DECODER.decode(line)) == spelled


BACK_SLASHES = r"\\" * 200_000
GROWING = ",".join(["1e4096"] * 50_000)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "participants", f'{{"username": "carol", "amount": 1, "metadata": {{"a": [{GROWING}]}}}}'),
        ("POST", "transfer", f'{{"from": 1, "to": 2, "amount": 1, "metadata": {{"a": [{GROWING}]}}}}'),
        ("DELETE", "participants/1", f'{{"metadata": {{"a": [{GROWING}]}}}}'),
        ("POST", "transfers", f'{{"transfers": [{"1," * (7 * MIB)}1]}}'),
        ("POST", "transfers", f'{{"x": 1, "transfers": [{"1," * 20_000}1]}}'),
        ("POST", "participants", '{"username": "' + BACK_SLASHES + '", "amount": 1}'),
        ("POST", "participants", f"[{'[],' * 300_000}[]]"),
    ],
    ids=["numbers of a join", "of a transfer", "of an exit", "ones", "a list that comes last", "back-slashes", "lists"],
)
@pytest.mark.usefixtures("unchanged")
def test_a_body_of_too_many_values_is_refused(api, group, method, path, body):
    problem(api(method, f"{group.path}/{path}", body), 413, "body_too_large")


@pytest.mark.parametrize(
    "numbers", ["[1e4096]", "[1e4000,1e4000,1e4000,1e4000,1e4000]", "[1e-4000,1e-4000,1e-4000,1e-4000,1e-4000]"]
)
@pytest.mark.usefixtures("unchanged")
def test_the_size_of_metadata_is_that_of_postgresqls_text(api, group, numbers):
    body = f'{{"from": {group.alice}, "to": {group.bob}, "amount": 1, "metadata": {{"a": {numbers}}}}}'
    answer = api("POST", f"{group.path}/transfer", body)
    assert problem(answer, 422, "invalid_value")["errors"] == {"metadata": ["must have at most 4096 bytes"]}
    answer = api("POST", f"{group.path}/transfers", f'{{"transfers": [{body}]}}')
    errors = problem(answer, 422, "invalid_value")["errors"]
    assert errors == {"transfers[0].metadata": ["must have at most 4096 bytes"]}
    query = quote(f'{{"a": {numbers}}}')
    answer = api("GET", f"{group.path}/entries?metadata={query}")
    assert list(problem(answer, 422, "invalid_value")["errors"]) == ["metadata"]


def test_large_answers_arrive_whole(api, new_group):
    group = new_group()
    names = [f"{number:04}{'€' * 251}" for number in range(300)]
    for name in names:
        assert api("POST", f"{group.path}/participants", {"username": name, "amount": 1}).status == 201
    answer = api("GET", f"{group.path}/participants")
    assert len(answer.body) > 3 * 65_536
    assert [participant["username"] for participant in answer.data][2:] == names
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    head = api("HEAD", f"{group.path}/participants")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))


@pytest.mark.parametrize("length", ["2", "1000"])
def test_a_request_after_the_head_of_a_large_answer_is_answered(api, new_group, length):
    """`HEAD` of an answer that is sent in slices, and of one that is not."""
    group = new_group()
    for number in range(100):
        username = f"{number:04}{'€' * 251}"
        assert api("POST", f"{group.path}/participants", {"username": username, "amount": 1}).status == 201
    path = f"{group.path}/participants?limit={length}"
    head = "{} {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n"
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as client:
        client.sendall(head.format("HEAD", path, "").encode())
        client.sendall(head.format("GET", "/api/health/live", "Connection: close\r\n").encode())
        received = b"".join(iter(lambda: client.recv(65536), b""))
    first, _, second = received.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert second.endswith(b'{"data":{"status":"ok"}}')
