"""The explorer's files as they are served, and what they may not contain."""

import gzip
import re

import pytest

from api.http.explorer import MEDIA_TYPES, explorer_pages
from api.resources import EXPLORER

FILES = sorted(EXPLORER.iterdir())
LARGEST = 100_000  # bytes of all files over the wire


@pytest.mark.parametrize("path", explorer_pages())
def test_each_file_is_served_to_everybody(api, path):
    answer = api("GET", path)
    content = (EXPLORER / (path.removeprefix("/explorer/").strip("/") or "index.html")).read_bytes()
    assert (answer.status, answer.body) == (200, content)
    assert answer.headers["Content-Type"] in MEDIA_TYPES.values()
    assert answer.headers["Cache-Control"] == "no-cache"
    head = api("HEAD", path)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(content)))
    assert api("OPTIONS", path).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert api("POST", path).status == 405


def test_the_policy_allows_nothing_but_its_own_files(api):
    rules = api("GET", "/").headers["Content-Security-Policy"].split("; ")
    policy = dict(rule.split(" ", 1) for rule in rules)
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert policy["default-src"] == policy["trusted-types"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}


def test_a_client_that_has_a_file_is_not_sent_it_again(api):
    first = api("GET", "/explorer/main.js", headers={"Accept-Encoding": "gzip"})
    tag = first.headers["ETag"]
    for held in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        again = api("GET", "/explorer/main.js", headers={"If-None-Match": held})
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Cache-Control"] == "no-cache"
    for other in ('"other"', f"{tag}x", ""):
        assert api("GET", "/explorer/main.js", headers={"If-None-Match": other}).status == 200
    assert api("GET", "/explorer/style.css").headers["ETag"] != tag


def test_everything_together_is_small_over_the_wire(api):
    answers = [api("GET", path, headers={"Accept-Encoding": "gzip"}) for path in explorer_pages()]
    assert sum(len(answer.body) for answer in answers) < LARGEST / 2
    script = next(answer for answer in answers if answer.headers["Content-Encoding"] == "gzip")
    assert len(gzip.decompress(script.body)) > len(script.body)


def test_no_other_path_is_served(api):
    for path in ("/explorer", "/explorer/", "/explorer/index.html", "/explorer/../api/cli.py", "/index.html"):
        assert api("GET", path).status == 404


def test_the_page_loads_each_module_at_once():
    html = (EXPLORER / "index.html").read_text()
    preloaded = set(re.findall(r'modulepreload" href="/explorer/([a-z]+\.js)"', html))
    assert preloaded == {file.name for file in FILES if file.suffix == ".js"} - {"main.js"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_makes_no_markup_out_of_text_and_names_no_other_host(file):
    text = file.read_text()
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\bon\w+=", text) == []
    )
    named = set(re.findall(r"https?://[^\s\"'`)]+", text))
    assert named <= {"http://www.w3.org/2000/svg"}


def test_a_chart_takes_at_most_200_lines():
    assert len((EXPLORER / "chart.js").read_text().splitlines()) <= 200


def test_the_api_key_is_kept_for_its_tab_only():
    storing = [file.name for file in FILES if "sessionStorage" in file.read_text()]
    assert storing == ["client.js"]
    assert not any("secret" in file.read_text() and "localStorage" in file.read_text() for file in FILES)
