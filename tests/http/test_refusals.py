"""Refusals: their answers, and that they change nothing."""

import gzip
import json
from urllib.parse import quote

import pytest

from tests.http.client import problem

pytestmark = pytest.mark.usefixtures("unchanged")

NAMES = {
    "missing": "{}",
    "null": '{"%s": null}',
    "empty": '{"%s": ""}',
    "blank": '{"%s": " \\u00a0\\u2003 "}',
    "long": '{"%s": "' + "x" * 256 + '"}',
    "long in emoji": '{"%s": "' + "🚀" * 256 + '"}',
    "NUL": '{"%s": "a\\u0000b"}',
    "control": '{"%s": "a\\u0007b"}',
    "control of the second set": '{"%s": "a\\u0085b"}',
    "lone surrogate": '{"%s": "a\\ud800b"}',
    "number": '{"%s": 12}',
    "true": '{"%s": true}',
    "list": '{"%s": ["a"]}',
}


@pytest.mark.parametrize("body", NAMES.values(), ids=NAMES)
def test_a_bad_name_is_refused(api, group, body):
    def named(field: str) -> str:
        return body.replace("%s", field)

    for method, path, field in (
        ("POST", "/api/groups", "name"),
        ("PUT", group.path, "name"),
        ("PATCH", f"{group.path}/participants/{group.alice}", "username"),
    ):
        assert list(problem(api(method, path, named(field)), 422, "invalid_value")["errors"]) == [field]
    with_amount = named("username")[:-1] + (', "amount": 1}' if "username" in named("username") else '"amount": 1}')
    joined = api("POST", f"{group.path}/participants", with_amount)
    assert list(problem(joined, 422, "invalid_value")["errors"]) == ["username"]


def test_a_name_that_is_taken_is_refused(api, group, other):
    for method, path, field, name in (
        ("POST", "/api/groups", "name", group.name),
        ("PUT", other.path, "name", group.name),
        ("POST", f"{group.path}/participants", "username", "alice"),
        ("PUT", f"{group.path}/participants/{group.bob}", "username", "alice"),
    ):
        body = {field: name} | ({"amount": 5} if method == "POST" and field == "username" else {})
        refusal = problem(api(method, path, body), 422, "already_taken")
        assert list(refusal["errors"]) == [field]
        assert refusal["sqlstate"] == "LG005"


IDS = ["0", "-1", "abc", str(2**63), "1" + "0" * 30, "9" * 10_000, "1.0", "%31", "1%00", "٣", "+1", "1e3"]


@pytest.mark.parametrize("number", IDS, ids=lambda number: number[:20])
def test_a_malformed_id_in_the_path_is_not_found(api, group, number):
    number = quote(number, safe="%")
    for method, path, body in (
        ("GET", f"/api/groups/{number}", None),
        ("PUT", f"/api/groups/{number}", {"name": "unheard of"}),
        ("DELETE", f"/api/groups/{number}", None),
        ("GET", f"/api/groups/{number}/total", None),
        ("GET", f"/api/groups/{number}/participants", None),
        ("POST", f"/api/groups/{number}/participants", {"username": "carol", "amount": 1}),
        ("POST", f"/api/groups/{number}/transfer", {"from": group.bob, "to": group.alice, "amount": 1}),
        ("GET", f"{group.path}/participants/{number}", None),
        ("PATCH", f"{group.path}/participants/{number}", {"username": "carol"}),
        ("DELETE", f"{group.path}/participants/{number}", None),
    ):
        assert problem(api(method, path, body), 404, "not_found")["errors"] == {"detail": "Not found"}


@pytest.mark.parametrize("number", ["0", "-1", '"abc"', str(2**63), "1" + "0" * 30, "1.0", "true", "null", "[]", '""'])
@pytest.mark.parametrize("field", ["from", "to"])
def test_a_malformed_id_in_the_body_is_invalid(api, group, field, number):
    body = {"from": str(group.bob), "to": str(group.alice)} | {field: number}
    sent = f'{{"from": {body["from"]}, "to": {body["to"]}, "amount": 1}}'
    assert list(problem(api("POST", f"{group.path}/transfer", sent), 422, "invalid_value")["errors"]) == [field]


def test_another_groups_participant_is_not_found(api, group, other):
    for method, body in (("GET", None), ("PUT", {"username": "x"}), ("DELETE", None)):
        problem(api(method, f"{group.path}/participants/{other.alice}", body), 404, "not_found")
    move = {"from": group.bob, "to": other.alice, "amount": 1}
    assert list(problem(api("POST", f"{group.path}/transfer", move), 404, "not_found")["errors"]) == ["to"]
    move = {"from": other.bob, "to": group.alice, "amount": 1}
    assert list(problem(api("POST", f"{group.path}/transfer", move), 404, "not_found")["errors"]) == ["from"]


def test_a_transfer_to_oneself_is_refused(api, group):
    move = {"from": group.bob, "to": group.bob, "amount": 1}
    assert list(problem(api("POST", f"{group.path}/transfer", move), 422, "invalid_value")["errors"]) == ["to"]


def test_a_transfer_of_more_than_the_balance_is_refused(api, group):
    body = problem(
        api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 150}),
        403,
        "insufficient_funds",
    )
    assert body == {
        "type": "/problems/insufficient-funds",
        "title": "Insufficient funds",
        "status": 403,
        "detail": f"participant {group.bob} has 100, cannot send 150",
        "code": "insufficient_funds",
        "sqlstate": "LG003",
        "errors": {"amount": ["exceeds the balance of 100"]},
    }


def test_a_group_with_participants_is_not_removed(api, group):
    assert problem(api("DELETE", group.path), 409, "group_not_empty")["sqlstate"] == "LG004"


def test_all_invalid_values_are_reported_at_once(api, group):
    body = problem(api("POST", f"{group.path}/transfer", '{"from": 0, "amount": 1.5, "x": 1}'), 422, "invalid_value")
    assert list(body["errors"]) == ["from", "to", "amount", "x"]
    body = problem(api("POST", f"{group.path}/participants", {"username": " ", "amount": 2**256}), 422, "invalid_value")
    assert list(body["errors"]) == ["username", "amount"]
    body = problem(
        api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.bob, "amount": 0}), 422, "invalid_value"
    )
    assert list(body["errors"]) == ["to", "amount"]


def test_invalid_values_are_reported_before_unknown_rows_and_those_before_the_rest(api, group):
    move = {"from": 2**62, "to": 2**62, "amount": 0}
    problem(api("POST", "/api/groups/abc/transfer", move), 422, "invalid_value")
    problem(api("POST", "/api/groups/abc/transfer", move | {"to": 1, "amount": 1}), 404, "not_found")
    problem(api("POST", f"{group.path}/transfer", move | {"to": group.bob, "amount": 10**9}), 404, "not_found")
    problem(api("POST", f"/api/groups/{2**62}/participants", {"username": "", "amount": 1}), 422, "invalid_value")
    problem(api("POST", "/api/groups/abc/transfer", "[]"), 400, "invalid_json")


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("PUT", '{"username": "x", "amount": 1}', "amount"),
        ("PATCH", '{"update_params": {"username": "x", "amount": 1}}', "amount"),
        ("PUT", '{"amount": 1, "username": "x"}', "amount"),
        ("PUT", '{"username": "x", "id": 1}', "id"),
        ("PUT", '{"username": "x", "\\ud800": 1}', "\ufffd"),
        ("PUT", '{"update_params": {"username": "x"}, "username": "y"}', "username"),
        ("PUT", '{"update_params": [1]}', "update_params"),
        ("PUT", '{"update_params": null}', "update_params"),
        ("PUT", '{"username": "x", "username": "y"}', "username"),
        ("PUT", '{"update_params": {"username": "x"}, "update_params": {"username": "y"}}', "update_params"),
        ("PUT", '{"username": "x", "group_id": 999999}', "group_id"),
        ("PUT", '{"username": "x", "group_id": true}', "group_id"),
        ("PUT", '{"username": "x", "group_id": null}', "group_id"),
    ],
)
def test_unknown_members_are_refused(api, group, method, body, field):
    answer = api(method, f"{group.path}/participants/{group.alice}", body)
    assert list(problem(answer, 422, "invalid_value")["errors"]) == [field]


def test_the_first_hundred_of_many_members_are_named(api):
    members = [f'"{number:05x}":0' for number in range(8_000)]
    answer = api("POST", "/api/groups", "{" + ",".join([*members, '"00000":1']) + "}")
    assert len(problem(answer, 422, "invalid_value")["errors"]) == 100


BODIES = {
    "nothing": b"",
    "list": b"[]",
    "string": b'"name"',
    "number": b"1",
    "null": b"null",
    "truncated": b'{"name": "x"',
    "two": b'{"name": "x"} {"name": "y"}',
    "NaN": b'{"name": NaN}',
    "single quotes": b"{'name': 'x'}",
    "Latin-1": '{"name": "é"}'.encode("latin-1"),
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"name": "x"}',
    "control character": b'{"name": "a\nb"}',
    "nested lists": b"[" * 10_000,
    "nested objects": b'{"name":' * 8_000,
    "nested and closed": b'{"name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_body_that_is_no_json_object_is_refused(api, body):
    problem(api("POST", "/api/groups", body), 400, "invalid_json")


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", "", "application/jsonx"],
)
def test_another_media_type_is_refused(api, media_type):
    problem(api("POST", "/api/groups", '{"name": "x"}', {"Content-Type": media_type}), 415, "unsupported_media_type")


@pytest.mark.parametrize("size", [(1 << 20) + 1, 2 << 20, 20 << 20])
def test_a_body_over_1_mib_is_refused(api, size):
    body = b'{"name": "' + b"x" * (size - 12) + b'"}'
    assert len(body) == size
    problem(api("POST", "/api/groups", body), 413, "body_too_large")


def test_a_body_of_1_mib_is_read(api):
    body = b'{"name": "' + b"x" * ((1 << 20) - 12) + b'"}'
    problem(api("POST", "/api/groups", body), 422, "invalid_value")


def test_a_chunked_body_over_1_mib_is_refused(api):
    chunks = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    head = (
        b"POST /api/groups HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert b" 413 " in api.raw(head + chunks * 20 + b"0\r\n\r\n").split(b"\r\n")[0]


def test_an_absurd_content_length_is_refused(api):
    for length in (b"99999999999999999999", b"9" * 5000):
        head = (
            b"POST /api/groups HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
            + length
        )
        status = api.raw(head + b"\r\n\r\n{}").split(b"\r\n")[0]
        assert status.split()[1] in (b"413", b"400")


def test_ten_thousand_headers_are_refused(api):
    head = (
        b"GET /api/groups HTTP/1.1\r\nHost: localhost\r\n"
        + b"".join(b"X-%d: y\r\n" % i for i in range(10_000))
        + b"\r\n"
    )
    answer = api.raw(head)
    assert b" 431 " in answer.split(b"\r\n")[0]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["code"] == "header_too_large"


@pytest.mark.parametrize(
    "line", [b"nonsense", b"GET /", b"GET / HTTP/9.9", b"\x00\x01\x02", b"GET /api/groups\xff HTTP/1.1"]
)
def test_bytes_that_are_no_http_are_refused(api, line):
    answer = api.raw(line + b"\r\nHost: localhost\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0]
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["code"] == "bad_request"


def test_a_request_cut_off_half_way_changes_nothing(api, group):
    body = b'{"from": %d, "to": %d, "amount": 5}' % (group.bob, group.alice)
    head = (
        b"POST %s/transfer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    whole = head % (group.path.encode(), len(body)) + body
    for length in (10, len(whole) // 2, len(whole) - len(body), len(whole) - 1):
        assert b" 200 " not in api.raw(whole[:length]).split(b"\r\n")[0]


def test_an_unknown_route_is_not_found(api, group):
    for path in (
        "/nothing",
        "/api/nothing",
        f"{group.path}/nothing",
        "/api/groups/1/participants/1/2",
        "/%00",
        "/../x",
    ):
        problem(api("GET", path), 404, "not_found")


def test_the_answer_to_a_wrong_method_lists_the_allowed_ones(api, group):
    for method, path, allowed in (
        ("POST", group.path, "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("DELETE", "/api/groups", "GET, HEAD, POST, OPTIONS"),
        ("GET", f"{group.path}/transfer", "POST, OPTIONS"),
        ("TRACE", "/api/groups", "GET, HEAD, POST, OPTIONS"),
        ("POST", "/api/health", "GET, HEAD, OPTIONS"),
    ):
        answer = api(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


def test_an_unknown_or_repeated_query_parameter_is_refused(api, group):
    assert list(problem(api("GET", "/api/groups?limt=5"), 422, "invalid_value")["errors"]) == ["limt"]
    assert list(problem(api("GET", "/api/groups?limit=5&limit=6"), 422, "invalid_value")["errors"]) == ["limit"]
    assert list(problem(api("GET", f"{group.path}?at=1"), 422, "invalid_value")["errors"]) == ["at"]


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "x"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_body_with_a_content_encoding_is_refused(api, group, method, coding):
    path = group.path if method == "PATCH" else "/api/groups"
    body = gzip.compress(b'{"name": "compressed"}') if coding == "gzip" else b'{"name": "not compressed"}'
    answer = api(method, path, body, {"Content-Encoding": coding})
    assert "Content-Encoding" in problem(answer, 415, "unsupported_media_type")["detail"]
    assert answer.headers["Accept-Encoding"] == "identity"


def test_the_content_encoding_identity_is_accepted(api):
    problem(api("POST", "/api/groups", "{}", {"Content-Encoding": "Identity"}), 422, "invalid_value")


def test_a_byte_order_mark_is_named(api):
    answer = api("POST", "/api/groups", b'\xef\xbb\xbf{"name": "x"}')
    assert "byte order mark" in problem(answer, 400, "invalid_json")["detail"]


def test_another_header_for_an_idempotency_key_is_refused_with_a_hint(api, group):
    for method, path, body in (
        ("POST", "/api/groups", {"name": "keyed"}),
        ("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 1}),
        ("DELETE", f"{group.path}/participants/{group.bob}", None),
    ):
        refusal = problem(api(method, path, body, {"X-Idempotency-Key": "a"}), 422, "invalid_value")
        assert list(refusal["errors"]) == ["X-Idempotency-Key"]
        assert refusal["detail"] == "X-Idempotency-Key is not known; the header is Idempotency-Key"
