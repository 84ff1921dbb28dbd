"""Whole lists of many pages as CSV and NDJSON: their order, and clients that disconnect or do not read."""

import http.client
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from pytest_postgresql.executors import NoopExecutor

from api.http.formats import CSV, NDJSON
from tests.conftest import Server, janitor
from tests.http.client import Service, serving
from tests.http.test_exports import HEADERS, get, lines, rows
from tests.support import create_crowd, one, until

# In 101 pages, of more bytes than the system takes off the service's hands.
MANY = 100_500
PADDING = "x" * 100
LAST_CHUNK = b"\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def api(server: Server, template: NoopExecutor) -> Iterator[Service]:
    """A service on a database of its own: the other tests read the whole of theirs."""
    with janitor(server, "ledger_exports", template.template_dbname), serving(server.database("ledger_exports")) as api:
        yield api


@pytest.fixture(scope="module")
def observer(api: Service) -> Iterator[psycopg.Connection]:
    with api.database.connect(api.database.admin) as connection:
        yield connection


@pytest.fixture
def admin(observer: psycopg.Connection) -> psycopg.Connection:
    return observer


@pytest.fixture(scope="module")
def crowd(api) -> str:
    """The path of a group of many participants with one entry each, the usernames in the order of the ids."""
    with api.database.connect(api.database.admin) as admin:
        group = create_crowd(admin, MANY, PADDING)
    return f"/api/groups/{group}"


def test_a_hundred_thousand_participants_come_once_and_in_order(api, crowd):
    header, *cells = rows(get(api, f"{crowd}/participants", CSV))
    assert [row[0] for row in cells] == [f"p{number}{PADDING}" for number in range(1, MANY + 1)]
    ids = [int(row[1]) for row in cells]
    assert ids == sorted(set(ids))
    assert header == HEADERS["participants"]
    rest = rows(get(api, f"{crowd}/participants?after={ids[-1500]}", CSV))
    assert rest[1:] == cells[-1499:]


def test_a_hundred_thousand_entries_of_one_time_come_once(api, crowd):
    shown = lines(get(api, f"{crowd}/entries?order=desc", NDJSON))
    ids = [entry["id"] for entry in shown]
    assert len(ids) == MANY
    assert ids == sorted(set(ids), reverse=True)


def read_head(client: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        more = client.recv(65536)
        assert more, received
        received += more
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest


@pytest.fixture
def connected(api) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", api.port), timeout=60) as client:
        yield client


def request(path: str, method: str = "GET", version: str = "1.1") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: localhost\r\nAccept: text/csv\r\n\r\n".encode()


def test_a_head_has_the_fields_of_its_get_and_the_connection_goes_on(crowd, connected):
    connected.sendall(request(f"{crowd}/participants", "HEAD") + request(f"{crowd}/participants?limit=1", "HEAD"))
    head, rest = read_head(connected)
    assert b"transfer-encoding: chunked" in head
    assert b"content-type: text/csv" in head
    while b"\r\n\r\n" not in rest:
        rest += connected.recv(65536)
    assert rest.startswith(b"HTTP/1.1 200")
    assert b"chunked" not in rest
    assert b"content-length: " in rest.lower()


def test_a_stream_is_followed_by_the_next_answer(api, crowd):
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
    for _ in range(2):
        connection.request("GET", f"{crowd}/participants?after=0", headers={"Accept": NDJSON})
        assert len(connection.getresponse().read().splitlines()) == MANY
    connection.close()


def test_a_client_of_http_1_0_gets_the_whole_list_until_the_end_of_the_connection(crowd, connected):
    connected.sendall(request(f"{crowd}/participants", version="1.0"))
    head, rest = read_head(connected)
    assert b"chunked" not in head
    assert b"connection: close" in head
    body = rest + b"".join(iter(lambda: connected.recv(1 << 20), b""))
    assert body.count(b"\r\n") == MANY + 1


def test_a_client_that_disconnects_ends_its_stream(api, crowd, observer):
    reads = "select count(*) from pg_stat_activity where query like '%%list_participants%%' and state = 'active'"
    for how in ("reset", "end"):
        with socket.create_connection(("127.0.0.1", api.port), timeout=60) as client:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(request(f"{crowd}/participants"))
            read_head(client)
        until(lambda: one(observer, reads + " and pid <> pg_backend_pid()") == (0,), "the reading to end")
    assert api("GET", f"{crowd}/participants?limit=1").status == 200


def test_no_session_is_held_while_a_client_does_not_read(api, crowd, observer):
    """More streams than the service has connections wait for their clients, and others are answered."""
    busy = "select count(*) from pg_stat_activity where usename = %s and (state <> 'idle' or backend_xmin is not null)"
    with ExitStack() as stack:
        clients = []
        for _ in range(6):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(60)
            client.connect(("127.0.0.1", api.port))
            client.sendall(request(f"{crowd}/participants"))
            clients.append((client, read_head(client)[1]))
        until(lambda: one(observer, busy, [api.database.service]) == (0,), "every session to be idle")
        assert api("GET", f"{crowd}/participants?limit=1").status == 200
        client, body = clients[0]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        while not body.endswith(LAST_CHUNK):
            more = client.recv(1 << 20)
            assert more, "it was cut off"
            body += more
        assert body.count(b'"p100500x') == 1


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_stream_that_cannot_go_on_is_cut_off_so_that_the_client_notices(api, crowd, admin, version):
    group = crowd.rpartition("/")[2]
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", api.port))
        client.sendall(request(f"{crowd}/participants", version=version))
        _, rest = read_head(client)
        admin.execute("update ledger.groups set closed_at = now() where id = %s", [group])
        try:
            with pytest.raises(ConnectionResetError):
                rest += b"".join(iter(lambda: client.recv(1 << 20), b""))
            assert not rest.endswith(LAST_CHUNK)
            assert b"p100500" not in rest
        finally:
            admin.execute("update ledger.groups set closed_at = null where id = %s", [group])
