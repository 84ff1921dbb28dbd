"""Headers of every answer, and the pages that link to the API."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from api.http.date import Clock
from api.http.docs import DESCRIPTION, DOCS, VERSION
from api.routes import LIVE, METRICS
from tests.http.test_framing import exchange

IMF_FIXDATE = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"


def test_no_cache_stores_an_answer_of_the_api(api, group):
    asked = [
        *((method, path, None, None) for method in ("GET", "HEAD") for path in ("/api/groups", group.path)),
        *((method, path, None, None) for method in ("GET", "HEAD") for path in ("/api/health", LIVE, METRICS)),
        ("GET", f"{group.path}/participants?limit=1", None, {"Prefer": "amounts=string"}),
        ("OPTIONS", group.path, None, None),
        ("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 1}, None),
        ("POST", "/api/groups", {"name": f"stored {group.id}"}, None),
        ("POST", "/api/groups", "{", None),
        ("POST", "/api/groups", "{}", None),
        ("POST", "/api/groups", "{}", {"Content-Type": "text/plain"}),
        ("POST", "/api/groups", "{}", {"Expect": "more"}),
        ("POST", "/api/groups", b"x" * (2 << 20), None),
        ("GET", "/api/groups", None, {"Origin": "null"}),
        ("GET", "/api/groups", None, {"Authorization": "Bearer x"}),
        ("GET", "/api/groups", None, {"X-Large": "x" * 20_000}),
        ("GET", "/api/nothing", None, None),
        ("PUT", "/api/health", None, None),
        ("DELETE", group.path, None, None),
        ("DELETE", f"{group.path}/participants/{group.bob}", None, None),
        ("DELETE", f"{group.path}/participants/{group.alice}", None, None),
        ("DELETE", group.path, None, None),
    ]
    answers = [api(*each) for each in asked]
    statuses = {answer.status for answer in answers}
    assert {200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 415, 417, 422, 431} <= statuses
    for sent, answer in zip(asked, answers, strict=True):
        assert answer.headers.get_all("Cache-Control") == ["no-store"], sent
        assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"], sent
        (date,) = answer.headers.get_all("Date")
        assert re.fullmatch(IMF_FIXDATE, date), sent
        assert abs(parsedate_to_datetime(date) - datetime.now(UTC)) < timedelta(minutes=10)


def test_the_answer_to_a_malformed_request_has_a_date_and_is_not_stored(api):
    head = api.raw(b"nonsense\r\n\r\n").partition(b"\r\n\r\n")[0].lower()
    assert b"\r\ndate: " in head
    assert b"\r\ncache-control: no-store" in head


def test_the_date_advances(monkeypatch):
    clock = Clock()
    for second, written in ((0.9, "Thu, 01 Jan 1970 00:00:00 GMT"), (1795789805.0, "Fri, 27 Nov 2026 14:30:05 GMT")):
        monkeypatch.setattr("api.http.date.time", lambda second=second: second)
        assert clock.now() == clock.now() == written


def test_pages_keep_their_own_cache_control(api):
    for path, said in (
        (DOCS, "no-cache"),
        (DESCRIPTION, "no-cache"),
        ("/", "no-cache"),
        (f"{DOCS}/{VERSION}/swagger-ui.css", "public, max-age=31536000, immutable"),
    ):
        answer = api("GET", path)
        assert answer.headers.get_all("Cache-Control") == [said]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Date"]


@pytest.mark.parametrize("path", ["/", "/api", "/api/"])
def test_the_first_pages_link_to_the_api(api, path):
    answer, head = api("GET", path), api("HEAD", path)
    assert (answer.status, head.status, head.body) == (200, 200, b"")
    assert head.headers["Content-Length"] == str(len(answer.body))
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    html = answer.body.decode()
    assert "Ledger" in html
    assert re.findall(r"<script(?! type=\"module\" src=)|<style|style=|\son\w+=|//", html) == []
    links = re.findall(r'(?:href|src)="([^"#][^"]*)"', html)
    assert {DOCS, DESCRIPTION} <= set(links)
    assert all(api("GET", link).status == 200 for link in links)
    assert api("OPTIONS", path).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert api("POST", path).status == 405


def test_a_health_check_of_the_root_page_by_http_1_0_is_answered(api):
    (answer,) = exchange(api, b"GET / HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.closes) == (200, True)
