"""Snapshots are fetched from files or from the ledger's service, and no source can hold a guardian up."""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.proofs import verify_snapshot
from bridge.halts import Refusal
from bridge.sources import Broken, Limits, Missing, fetch, read_source
from tests.exits.test_verify_snapshot import made_of
from tests.http.client import serving
from tests.running.commands import free_port
from tests.support import create, join, one

SNAPSHOT = made_of([(number, number * 10**18) for number in range(1, 2500)])
HEADER = SNAPSHOT["checkpoint"]["header"]
GROUP, NUMBER = SNAPSHOT["checkpoint"]["group_id"], SNAPSHOT["checkpoint"]["number"]
PATH = f"/api/groups/{GROUP}/checkpoints/{NUMBER}"


class Server:
    """A source that answers as it is set: a body, or a function of the path that returns status, headers and pieces."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[str], tuple[int, dict[str, str], Iterator[bytes]]] = self.service

    def service(self, path: str) -> tuple[int, dict[str, str], Iterator[bytes]]:
        """As the ledger answers."""
        if path == PATH:
            return 200, {}, iter([json.dumps({"data": SNAPSHOT["checkpoint"]}).encode()])
        after = int(path.partition("after=")[2])
        page = [leaf for leaf in SNAPSHOT["leaves"] if leaf["participant_id"] > after][:1000]
        return 200, {}, iter([json.dumps({"data": page}).encode()])


@pytest.fixture
def source() -> Iterator[Server]:
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            source.asked.append((self.path, dict(self.headers)))
            status, headers, pieces = source.answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in pieces:
                    if ended.is_set():
                        return
                    self.wfile.write(piece)
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as listening:
        source = Server(listening.server_port)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield source
        finally:
            ended.set()
            listening.shutdown()
            thread.join()


def get(url: str, into: Path, api_key: Path | None = None, octets: int = 1 << 24, seconds: float = 60) -> str:
    """What the fetched file shows."""
    limits = Limits(octets, time.monotonic() + seconds)
    fetch(read_source(url, api_key), GROUP, NUMBER, HEADER, into, limits)
    return verify_snapshot.verify(io.StringIO(into.read_text()), HEADER)


def test_gets_a_snapshot_from_the_service_page_by_page(source, tmp_path):
    key = tmp_path / "key"
    key.write_text("ledger_1_secret\n")
    assert "has 2499 leaves" in get(source.url + "/", tmp_path / "new", key)
    paths = [path for path, _ in source.asked]
    assert paths == [PATH, *(f"{PATH}/leaves?limit=1000&after={after}" for after in (0, 1000, 2000))]
    assert {headers["Authorization"] for _, headers in source.asked} == {"Bearer ledger_1_secret"}
    assert {headers["Prefer"] for _, headers in source.asked} == {"amounts=string"}


def test_gets_a_snapshot_of_the_ledger_itself(database, tmp_path):
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        for name in range(1200):
            join(ledger, group, f"p{name}", 2**200 + name)
        number, header = one(ledger, "select number, header from ledger.checkpoint(%s)", [group])
    with serving(database) as service:
        source = read_source(f"http://127.0.0.1:{service.port}", None)
        into = tmp_path / "new"
        fetch(source, group, number, header, into, Limits(1 << 24, time.monotonic() + 60))
    with into.open() as text:
        assert "has 1200 leaves" in verify_snapshot.verify(text, header)


@pytest.mark.parametrize("place", ["{}/files/{{group}}-{{number}}.json", "{}/{{number}}?group={{group}}"])
def test_gets_a_snapshot_from_files(source, tmp_path, place):
    text = json.dumps(SNAPSHOT).encode()
    source.answer = lambda path: (200, {}, iter([text[:1000], text[1000:]]))
    assert "has 2499 leaves" in get(place.format(source.url), tmp_path / "new")
    ((path, _),) = source.asked
    assert path in (f"/files/{GROUP}-{NUMBER}.json", f"/{NUMBER}?group={GROUP}")


def test_gets_a_snapshot_from_a_folder_as_another_guardian_keeps_it(tmp_path):
    file = tmp_path / str(GROUP) / f"{NUMBER}.json"
    file.parent.mkdir()
    file.write_text(json.dumps(SNAPSHOT))
    assert "has 2499 leaves" in get(f"file://{tmp_path}", tmp_path / "new")
    assert "has 2499 leaves" in get(f"file://{tmp_path}/{{group}}/{{number}}.json", tmp_path / "new")


def refused(source: Server, tmp_path: Path, otherwise: str, **limits: float) -> None:
    with pytest.raises(Missing, match=otherwise):
        get(source.url, tmp_path / "new", **limits)


def answering(body: bytes, status: int = 200, **headers: str) -> Callable[[str], tuple]:
    return lambda path: (status, headers, iter([body]))


def test_a_snapshot_is_missing_where_the_source_answers_with_something_else(source, tmp_path):
    for body, otherwise in (
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"data":1,"data":2}', "not JSON"),
        (b"[]", "no data"),
        (b'{"data":{}}', "another checkpoint"),
        (json.dumps({"data": SNAPSHOT["checkpoint"] | {"total": 1}}).encode(), "another checkpoint"),
        (b'"' + b"x" * (1 << 20), "too long"),
    ):
        source.answer = answering(body)
        refused(source, tmp_path, otherwise)
    for status in (404, 401, 500):
        source.answer = answering(b"", status)
        refused(source, tmp_path, f"status {status}")
    with pytest.raises(Missing, match="does not answer"):
        get(f"http://127.0.0.1:{free_port()}", tmp_path / "new")
    with pytest.raises(Missing, match="does not answer"):
        get(f"file://{tmp_path}", tmp_path / "new")


@pytest.mark.parametrize(
    "leaves", [[], SNAPSHOT["leaves"][:1] * 1000, [None], "x"], ids=["none", "again", "null", "text"]
)
def test_a_service_that_never_ends_is_left(source, tmp_path, leaves):
    pages = itertools.count()

    def answer(path: str) -> tuple:
        assert next(pages) < 10
        return source.service(path) if path == PATH else (200, {}, iter([json.dumps({"data": leaves}).encode()]))

    source.answer = answer
    refused(source, tmp_path, "the service")


def test_follows_no_redirect(source, tmp_path):
    """The API key is for the service alone."""
    source.answer = answering(b"", 302, Location=f"{source.url}/elsewhere")
    refused(source, tmp_path, "status 302")
    assert [path for path, _ in source.asked] == [PATH]


def test_a_source_that_answers_byte_by_byte_is_left_in_time(source, tmp_path):
    def drip() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.01)

    source.answer = lambda path: (200, {}, drip())
    refused(source, tmp_path, "not there in time", seconds=0.3)


def test_a_file_that_never_ends_is_left(source, tmp_path):
    source.answer = lambda path: (200, {}, itertools.repeat(b" " * 65536))
    with pytest.raises(Missing, match="more than 1000000 bytes"):
        get(f"{source.url}/{{group}}/{{number}}", tmp_path / "new", octets=1_000_000)
    assert (tmp_path / "new").stat().st_size <= 1_000_000


def test_a_disk_that_cannot_be_written_is_not_the_sources_fault(source, tmp_path):
    with pytest.raises(Broken):
        get(source.url, tmp_path / "missing" / "new")
    with pytest.raises(Broken, match="No space left"):
        get(source.url, Path("/dev/full"))


def test_refuses_an_address_that_is_none(tmp_path):
    key = tmp_path / "key"
    key.write_text("secret")
    for url, given, otherwise in (
        ("ftp://example.com", None, "begins with file://"),
        ("example.com", None, "begins with file://"),
        ("https://example.com/{number}", None, "or neither"),
        ("https://example.com/{group}/{number}", key, "not for files"),
        ("https://example.com", tmp_path / "missing", "cannot read"),
    ):
        with pytest.raises(Refusal, match=otherwise):
            read_source(url, given)
    key.write_text("two words")
    with pytest.raises(Refusal, match="does not have an API key"):
        read_source("https://example.com", key)
