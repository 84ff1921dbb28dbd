"""The pages: the description itself, and Swagger UI, which shows it in a browser that asks no other host."""

import base64
import gzip
import hashlib
import re

import pytest

from api.http.docs import DESCRIPTION, DOCS, SCRIPT, STYLE, SWAGGER_UI, VERSION
from tests.openapi import browser
from tests.openapi.completeness import operations

needs_a_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs a browser: apt-get install chromium")


def test_the_committed_description_is_served(api, described):
    answer = api("GET", DESCRIPTION)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json == described


def test_the_page_allows_nothing_from_elsewhere(api):
    answer = api("GET", DOCS)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert set(" ".join(policy.values()).split()) == {"'none'", "'self'", "data:"}
    assert [name for name, sources in policy.items() if "data:" in sources] == ["img-src"]
    html = answer.body.decode()
    assert re.findall(r"<script(?! src=)|<style|style=|\son\w+=|//", html) == []
    for address in re.findall(r'(?:src|href)="([^"]*)"', html):
        assert api("GET", address).status == 200
        assert api("HEAD", address).headers["Content-Length"] == str(len(api("GET", address).body))


def test_swagger_ui_equals_the_published_files():
    for name, published in (("swagger-ui-bundle.js", SCRIPT), ("swagger-ui.css", STYLE)):
        found = hashlib.sha256((SWAGGER_UI / name).read_bytes()).digest()
        assert f"sha256-{base64.b64encode(found).decode()}" == published


def test_a_page_has_no_other_methods_or_paths(api):
    assert api("OPTIONS", DOCS).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert api("POST", DESCRIPTION).status == 405
    for path in (f"{DOCS}/index.html", f"{DOCS}/../../etc/passwd", f"{DOCS}/5.31.0/swagger-ui-bundle.js.map"):
        assert api("GET", path).status == 404


@needs_a_browser
def test_a_browser_shows_every_operation_and_contacts_no_other_host(api, described, tmp_path):
    with browser.page(tmp_path / "profile") as page:
        page("Page.navigate", url=f"http://127.0.0.1:{api.port}{DOCS}")
        page.until("document.querySelector('.opblock')")
        shown = page.evaluate("[...document.querySelectorAll('.opblock')].map(operation => operation.id)")
        assert set(shown) == {
            f"operations-{operation['tags'][0]}-{operation['operationId']}" for _, _, operation in operations(described)
        }
        assert page.evaluate("document.querySelector('.version-stamp').innerText") == "OAS 3.1"
        opened = "document.querySelector('#operations-transfers-transfer')"
        page.evaluate(f"{opened}.querySelector('button').click()")
        page.until(f"{opened}.querySelector('.responses-table')")
        for word in ("Idempotency-Key", "Ledger-Entry", "insufficient_funds", "application/problem+json"):
            assert word in page.evaluate(f"{opened}.innerText")
        page.evaluate(f"{opened}.scrollIntoView()")
        page.screenshot(tmp_path / "docs.png")
        assert (tmp_path / "docs.png").stat().st_size > 20_000
        # Its requests, and that its policy blocked none of them.
        asked = {address for address in page.requested if not address.startswith("data:")}
        assert asked
        assert all(address.startswith(f"http://127.0.0.1:{api.port}/api/") for address in asked)
        assert page.complaints == []


@needs_a_browser
def test_a_call_can_be_made_from_the_page(api, tmp_path):
    with browser.page(tmp_path / "profile") as page:
        page("Page.navigate", url=f"http://127.0.0.1:{api.port}{DOCS}#/health/health")
        opened = "document.querySelector('#operations-health-health')"
        page.until(f"{opened} && {opened}.querySelector('.try-out__btn')")
        page.evaluate(f"{opened}.querySelector('.try-out__btn').click()")
        page.until(f"{opened}.querySelector('.execute')")
        page.evaluate(f"{opened}.querySelector('.execute').click()")
        page.until(f"{opened}.querySelector('.live-responses-table')")
        assert '"status": "ok"' in page.evaluate(f"{opened}.querySelector('.live-responses-table').innerText")
        assert page.complaints == []


@needs_a_browser
def test_a_call_from_the_page_has_no_default_idempotency_key_and_exact_amounts(api, tmp_path):
    """A default idempotency key would make the second call a replay of the first."""
    with browser.page(tmp_path / "profile") as page:
        page("Page.navigate", url=f"http://127.0.0.1:{api.port}{DOCS}#/transfers/transfer")
        opened = "document.querySelector('#operations-transfers-transfer')"
        page.until(f"{opened} && {opened}.querySelector('.try-out__btn')")
        page.evaluate(f"{opened}.querySelector('.try-out__btn').click()")
        page.until(f"{opened}.querySelector('.execute')")
        typed = [
            page.evaluate(f"{opened}.querySelector('[data-param-name={name}] input').value")
            for name in ("group_id", "Idempotency-Key", "Prefer")
        ]
        assert typed == ["1", "", "amounts=string"]


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("*", "gzip"),
        ("br;q=1.0, GZIP;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("identity", None),
        ("", None),
    ],
)
def test_pages_are_compressed_for_clients_that_accept_it(api, accepted, encoding):
    path = f"{DOCS}/{VERSION}/swagger-ui-bundle.js"
    plain = api("GET", path, headers={"Accept-Encoding": "identity"})
    answer = api("GET", path, headers={"Accept-Encoding": accepted})
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["Content-Encoding"] == encoding
    assert (gzip.decompress(answer.body) if encoding else answer.body) == plain.body
    assert not encoding or len(answer.body) < 0.4 * len(plain.body)
