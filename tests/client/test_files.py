"""Files: the bytes of lists and statements as the service writes them, page by page."""

import asyncio
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from ledger_client import AsyncClient, Client, ConnectionFailed, Group, NotFound, Participant, UnexpectedAnswer
from ledger_client.calls import MEDIA_TYPES, FileFormat
from tests.http.client import Service

FORMATS: list[FileFormat] = ["csv", "ndjson"]


@pytest.fixture
def hostile(client: Client, group: Group, alice: Participant, bob: Participant) -> None:
    """Rows whose text has line ends, quotes and formulas."""
    evil = client.join_group(group.id, '=1+1,"x"', 2**256 - 201)
    client.transfer(group.id, bob.id, evil.id, 1, metadata={"note": 'a\r\nb,"c"'})
    client.transfer(group.id, bob.id, alice.id, 2, metadata={"order": 17})


def whole(service: Service, path: str, file_format: FileFormat) -> bytes:
    """The file as the service writes it in one answer."""
    answer = service("GET", path, headers={"Accept": MEDIA_TYPES[file_format], "Prefer": "amounts=string"})
    assert answer.status == 200
    return answer.body


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("page_size", [1, 2, None])
def test_the_pages_are_the_file(
    client: Client, service: Service, group: Group, bob: Participant, file_format: FileFormat, page_size: int | None
) -> None:
    path = f"/api/groups/{group.id}"
    for pieces, of in (
        (client.download_participants(group.id, file_format, page_size=page_size), "participants"),
        (client.download_entries(group.id, file_format, page_size=page_size), "entries"),
        (client.download_entries(group.id, file_format, order="desc", kind="join"), "entries?order=desc&kind=join"),
        (
            client.download_participant_entries(group.id, bob.id, file_format, page_size=page_size),
            f"participants/{bob.id}/entries",
        ),
    ):
        assert b"".join(pieces) == whole(service, f"{path}/{of}", file_format)
    statement = client.download_statement(group.id, bob.id, page_size=page_size)
    assert b"".join(statement) == whole(service, f"{path}/participants/{bob.id}/statement", "csv")


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("file_format", FORMATS)
def test_the_client_for_asyncio_reads_the_same(
    url: str, client: Client, group: Group, bob: Participant, file_format: FileFormat
) -> None:
    async def read() -> tuple[list[bytes], list[bytes]]:
        async with AsyncClient(url) as ledger:
            entries = ledger.download_entries(group.id, file_format, page_size=2)
            statement = ledger.download_statement(group.id, bob.id, page_size=2)
            return [each async for each in entries], [each async for each in statement]

    entries, statement = asyncio.run(read())
    assert entries == list(client.download_entries(group.id, file_format, page_size=2))
    assert statement == list(client.download_statement(group.id, bob.id, page_size=2))
    assert len(entries) == 3


def test_an_empty_list_is_an_empty_file(client: Client, group: Group) -> None:
    assert list(client.download_participants(group.id)) == [b"username,id,group_id,amount\r\n"]
    assert list(client.download_participants(group.id, "ndjson")) == [b""]


def test_a_refusal_is_an_exception(client: Client) -> None:
    with pytest.raises(NotFound):
        next(client.download_entries(2**62))


def test_pages_are_asked_for_where_no_size_is_given() -> None:
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request.url.query)
        headers = {"Content-Type": "text/csv", "Link": '</api/groups/1/entries?limit=1000&after=9>; rel="next"'}
        return httpx.Response(200, content=b"id\r\n9\r\n", headers=headers)

    with Client("http://ledger.test", transport=httpx.MockTransport(answer)) as ledger:
        pieces = ledger.download_entries(1)
        assert (next(pieces), requests) == (b"id\r\n9\r\n", [b"limit=1000"])
        assert (next(pieces), requests[1:]) == (b"9\r\n", [b"limit=1000&after=9"])


def test_a_format_that_is_not_there_is_refused(client: Client, group: Group) -> None:
    with pytest.raises(ValueError, match="'xml'"):
        client.download_entries(group.id, "xml")  # type: ignore[arg-type]


def test_an_answer_that_is_no_file_is_refused() -> None:
    page = httpx.MockTransport(lambda request: httpx.Response(200, html="<h1>Log in</h1>"))
    with Client("http://ledger.test", transport=page) as ledger, pytest.raises(UnexpectedAnswer, match="Log in"):
        next(ledger.download_entries(1))


class Cut(ThreadingHTTPServer):
    """Passes requests on to the service, and cuts off the answers whose turn it is in their middle."""

    def __init__(self, service: Service, turns: range) -> None:
        super().__init__(("127.0.0.1", 0), Relay)
        self.service = service
        self.turns = turns
        self.requests = 0


class Relay(BaseHTTPRequestHandler):
    server: Cut

    def do_GET(self) -> None:
        is_cut = self.server.requests in self.server.turns
        self.server.requests += 1
        answer = self.server.service("GET", self.path, headers={"Accept": self.headers["Accept"]})
        self.send_response(answer.status)
        for name in ("Content-Type", "Content-Length", "Link"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if is_cut else answer.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cut(service: Service, request: pytest.FixtureRequest) -> Iterator[Cut]:
    with Cut(service, request.param) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("cut", [range(1, 3)], indirect=True)
def test_a_page_that_is_cut_off_is_repeated(client: Client, group: Group, hostile: None, cut: Cut) -> None:
    with Client(f"http://127.0.0.1:{cut.server_port}") as ledger:
        ledger._sleep = lambda seconds: None
        assert list(ledger.download_entries(group.id, page_size=2)) == list(
            client.download_entries(group.id, page_size=2)
        )
    assert cut.requests == 3 + 2


@pytest.mark.parametrize("cut", [range(1, 100)], indirect=True)
def test_a_file_that_cannot_be_completed_ends_with_an_error(group: Group, hostile: None, cut: Cut) -> None:
    with Client(f"http://127.0.0.1:{cut.server_port}", retries=2) as ledger:
        ledger._sleep = lambda seconds: None
        pieces = ledger.download_entries(group.id, page_size=2)
        assert len(next(pieces).splitlines()) == 3
        with pytest.raises(ConnectionFailed, match="RemoteProtocolError") as raised:
            next(pieces)
    assert (cut.requests, raised.value.may_be_done) == (1 + 3, False)
