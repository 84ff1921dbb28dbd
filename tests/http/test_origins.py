"""Without API keys no foreign web page can use the ledger; with them, CORS lists the origins that may."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from pytest_postgresql.executors import NoopExecutor

from api.http.docs import DESCRIPTION, DOCS
from api.http.origins import Origins, read_origins
from api.postgres import embedded
from api.routes import LIVE, METRICS
from tests.conftest import Server, janitor
from tests.http.client import Service as Client
from tests.http.client import problem
from tests.openapi import browser
from tests.running.commands import free_port, refusal, serving
from tests.support import Database, call, one, until

needs_a_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="needs a browser: apt-get install chromium")

APP, OTHER = "https://app.example", "http://localhost:3000"
EXPOSED = {
    *("Ledger-Entry", "Location", "Link", "Idempotency-Replayed", "Retry-After", "X-Request-ID", "Preference-Applied")
}


def given(api, name: str) -> str:
    return name.replace("PORT", str(api.port))


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:PORT", "localhost.", "127.0.0.1:PORT", "127.8.9.1", "[::1]:PORT", "[0:0::1]",
             "localhost:1", "[::ffff:127.0.0.1]"]
)  # fmt: skip
def test_a_loopback_name_is_admitted(api, host):
    for path in ("/api/groups", METRICS):
        assert api("GET", path, None, {"Host": given(api, host)}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:PORT", "localhost.evil.example", "127.0.0.1.evil.example", "xlocalhost", "",
             "10.0.0.1", "[::2]", "127.0.0.1x", "0.0.0.0:PORT", "localhost..", "2130706433", "127.1"]
)  # fmt: skip
def test_another_host_is_refused(api, unchanged, group, host):
    headers = {"Host": given(api, host)}
    for method, path in (
        ("GET", "/api/groups"),
        ("GET", METRICS),
        ("DELETE", f"{group.path}/participants/{group.bob}"),
    ):
        problem(api(method, path, None, headers), 403, "foreign_origin")


def test_the_target_of_a_request_counts_as_its_host(api):
    for target, status in (("http://evil.example/api/groups", 403), ("http://localhost/api/groups", 200)):
        assert api("GET", target, None, {"Host": "localhost"}).status == status


FOREIGN = [
    *({"Origin": origin} for origin in ("http://evil.example", "null", "", "http://localhost", "http://localhost:1")),
    *({"Origin": f"{origin}:PORT"} for origin in ("ftp://127.0.0.1", "http://127.0.0.2", "//127.0.0.1", "127.0.0.1")),
    *({"Origin": f"http://127.0.0.1:{port}"} for port in ("PORT/", "PORT0", "x", "")),
    *({"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "", "new", "None")),
    {"Origin": "http://127.0.0.1:PORT", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "*"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_is_refused(api, unchanged, group, headers):
    headers = {name: given(api, value) for name, value in headers.items()}
    for method, path, body in (
        ("GET", "/api/groups", None),
        ("GET", METRICS, None),
        ("GET", "/api/entries", None),
        ("POST", "/api/groups", {"name": "foreign"}),
        ("POST", f"{group.path}/entries/1/reversal", None),
        ("DELETE", f"{group.path}/participants/{group.bob}", None),
        ("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 1}),
    ):
        problem(api(method, path, body, headers), 403, "foreign_origin")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:PORT"},
        {"Origin": "HTTP://127.0.0.1:PORT", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:PORT", "Host": "localhost:PORT"},
        {"Origin": "https://localhost", "Host": "localhost:443"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_its_own_pages_and_requests_without_an_origin_are_admitted(api, headers):
    headers = {name: given(api, value) for name, value in headers.items()}
    for path in ("/api/groups", METRICS):
        assert api("GET", path, None, headers).status == 200


def test_public_pages_are_open_to_every_origin(api):
    for path in ("/api/health", LIVE, DOCS, DESCRIPTION, "/", "/explorer/main.js"):
        headers = {"Host": "evil.example", "Origin": "null", "Sec-Fetch-Site": "cross-site"}
        assert api("GET", path, None, headers).status == 200


def test_once_api_keys_are_required_hosts_and_origins_are_checked_for_metrics_only(database: Database):
    foreign = {"Host": "ledger.example", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    with database.connect(database.admin) as admin:
        (secret,) = one(admin, "select secret from ledger.create_api_key('shop', 'read')")
    with serving(DATABASE_URL=database.url(database.service)) as service:
        assert service.ask("GET", "/api/groups", None, **foreign)[0] == 401
        assert service.ask("GET", "/api/groups", None, Authorization=f"Bearer {secret}", **foreign)[0] == 200
        assert service.ask("GET", METRICS, None, **foreign)[0] == 403


def test_the_host_that_it_listens_on_is_admitted():
    for hosts, host, admitted in (
        (("ledger.internal", "10.0.0.1"), "Ledger.Internal.:4000", True),
        (("ledger.internal", "10.0.0.1"), "10.0.0.1", True),
        (("ledger.internal", "10.0.0.1"), "localhost:4000", True),
        (("ledger.internal", "10.0.0.1"), "other.internal", False),
        (("::1",), "[0:0:0:0:0:0:0:1]:4000", True),
        (("::1", "fe80::1%lo"), "[fe80::2]", False),
    ):
        origins = Origins(hosts)
        assert not origins.any_host
        assert origins.is_own_host(host) == admitted, (hosts, host)
    assert Origins(("0.0.0.0",)).any_host
    assert Origins(("::", "localhost")).any_host


class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """The port of another web server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@needs_a_browser
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_foreign_page_cannot_reverse_a_transfer(api, group, admin, elsewhere, tmp_path, name):
    moved = api("POST", f"{group.path}/transfer", {"from": group.bob, "to": group.alice, "amount": 5})
    address = f"http://127.0.0.1:{api.port}{group.path}/entries/{moved.headers['Ledger-Entry']}/reversal"
    with browser.page(tmp_path / "profile") as page:
        page("Page.navigate", url=f"http://{name}:{elsewhere}/")
        page.until("document.title == 'elsewhere'")
        # Each as a page may without asking first: fetch, a beacon, a form.
        page.evaluate(
            f"""(() => {{
              window.settled = 0;
              for (const mode of ['no-cors', 'cors'])
                fetch('{address}', {{method: 'POST', mode}}).catch(() => {{}}).finally(() => window.settled++);
              navigator.sendBeacon('{address}');
            }})()"""
        )
        page.until("window.settled == 2")
        page.evaluate(f"document.body.innerHTML = '<form method=post action={address}></form>'")
        page.evaluate("document.forms[0].submit()")
        page.until("document.body && document.body.innerText.includes('foreign_origin')")
    balance = api("GET", f"{group.path}/participants/{group.bob}").data["amount"]
    assert balance == 95


@pytest.fixture(scope="module")
def shared(server: Server, template: NoopExecutor) -> Iterator:
    """A service that two origins may use, on a database of its own."""
    origins = f" {APP}:443, HTTP://LOCALHOST:3000,"
    with janitor(server, "ledger_origins", template.template_dbname):
        url = server.database("ledger_origins").url(embedded.SERVICE)
        with serving(DATABASE_URL=url, CORS_ORIGINS=origins) as service:
            yield lambda method, path, body=None, headers=(): asked(service, method, path, body, dict(headers))


def asked(service, method, path, body, headers):
    return Client(service.port, None)(method, path, body, headers)


def tokens(value: str) -> set[str]:
    return {token.strip() for token in value.split(",")}


@pytest.mark.parametrize("origin", [APP, OTHER])
def test_a_page_of_an_allowed_origin_may_send_requests_and_read_answers(shared, origin):
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    answers = {
        201: shared("POST", "/api/groups", {"name": f"group of {origin}"}, headers),
        200: shared("GET", "/api/groups/1/total", None, headers),
        404: shared("GET", "/api/groups/70", None, headers),
        405: shared("PUT", "/api/groups", None, headers),
        415: shared("POST", "/api/groups", "{}", headers | {"Content-Type": "text/plain"}),
    }
    for status, answer in answers.items():
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert tokens(answer.headers["Access-Control-Expose-Headers"]) == EXPOSED
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert "Origin" in tokens(answer.headers["Vary"])
    assert tokens(answers[200].headers["Vary"]) == {"Prefer", "Origin"}


def test_a_page_of_another_origin_may_not(shared):
    for origin in ("https://evil.example", f"{APP}:8443", "http://app.example", "null", f"{APP}, {OTHER}", f"{APP}/"):
        for method in ("GET", "OPTIONS"):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = shared(method, "/api/groups", None, asks)
            assert answer.status == (403 if method == "GET" else 204)
            assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
            assert answer.headers["Vary"] == "Origin"
    assert shared("GET", "/api/groups").headers["Vary"] == "Origin"


def test_a_preflight_is_answered(shared):
    asks = {
        "Origin": APP,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization",
    }
    answer = shared("OPTIONS", "/api/groups/1", None, asks)
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == APP
    assert tokens(answer.headers["Access-Control-Allow-Methods"]) == tokens(answer.headers["Allow"])
    sendable = {"Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-ID"}
    assert tokens(answer.headers["Access-Control-Allow-Headers"]) == sendable
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "Access-Control-Allow-Methods" not in shared("OPTIONS", "/api/groups/1", None, {"Origin": APP}).headers


def test_there_are_no_cors_headers_without_origins(api):
    answer = api("OPTIONS", "/api/groups", None, {"Origin": APP, "Access-Control-Request-Method": "POST"})
    assert "Vary" not in answer.headers
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_any_origin_may_send_requests_once_api_keys_are_required(database: Database):
    with serving(DATABASE_URL=database.url(database.service), CORS_ORIGINS="*") as service:
        headers = {"Origin": APP}
        assert asked(service, "GET", "/api/groups", None, headers).status == 403
        with database.connect(database.admin) as admin:
            ((_, secret),) = call(admin, "create_api_key", "shop", "read", None)
        until(lambda: asked(service, "GET", "/api/groups", None, headers).status == 401, "the key to be required")
        answer = asked(service, "GET", "/api/groups", None, headers | {"Authorization": f"Bearer {secret}"})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")


@needs_a_browser
def test_a_browser_lets_a_page_of_an_allowed_origin_read(database: Database, elsewhere, tmp_path):
    origin = f"http://127.0.0.1:{elsewhere}"
    url = database.url(database.service)
    with serving(DATABASE_URL=url, CORS_ORIGINS=origin) as service, browser.page(tmp_path / "profile") as page:
        page("Page.navigate", url=f"{origin}/")
        page.until("document.title == 'elsewhere'")
        page.evaluate(
            f"""fetch('http://127.0.0.1:{service.port}/api/groups', {{
              method: 'POST', body: '{{"name": "ETH"}}',
              headers: {{'Content-Type': 'application/json', 'Idempotency-Key': 'a', 'Prefer': 'amounts=string'}},
            }}).then(answer => {{ window.found = answer.headers.get('Location'); }}) && 0"""
        )
        page.until("window.found")
        assert page.evaluate("window.found") == "/api/groups/1"


@pytest.mark.parametrize(
    "value", ["app.example", "https://app.example/", "https://app.example/x", "null", "https://*.example", "ftp://x",
              "https://", "https://a:b", "https://a:99999", "https://me@app.example", "https://a https://b", "https://ä"]
)  # fmt: skip
def test_the_start_refuses_a_bad_origin_by_name(value, api):
    url = api.database.url(api.database.service)
    said = refusal("serve", "--insecure", status=2, DATABASE_URL=url, CORS_ORIGINS=f"{APP},{value}", PORT="1")
    assert "CORS_ORIGINS" in said
    assert repr(value) in said


def test_origins_are_read_as_browsers_write_them():
    assert read_origins("") == read_origins(" , ") == ()
    assert read_origins("https://A.example:443,http://[::1]:80, http://a:0443") == (
        "https://a.example",
        "http://[::1]",
        "http://a:443",
    )
