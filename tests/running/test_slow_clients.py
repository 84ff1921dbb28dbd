"""Slow, silent, vanished or many clients: the limits of a connection, and that other clients are not affected."""

from __future__ import annotations

import asyncio
import itertools
import json
import resource
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from sanic import HTTPResponse, Request

from api.http import app as application
from api.http.app import KEEP_ALIVE_TIMEOUT, App
from api.http.bodies import drop_body
from api.http.protocol import Connection
from api.server.listener import KEEPALIVE, listen
from bench.load import Server, request, send
from tests.running.commands import Service, free_port, serving
from tests.support import Database, create_large, until

IDLE, SLOW, BUSY = 10_000, 200, 64  # connections
LATEST_ANSWER = 10_000  # milliseconds, on a machine with other things to do
LOAD_BALANCER_KEEPS = 130  # seconds that the one of docs/operations.md keeps an idle connection
REQUEST_TIMEOUT, ANSWER_TIMEOUT = 1, 1  # seconds, instead of 30 and 60

HURRIED = f"""
import api.http.app, api.http.protocol
api.http.app.REQUEST_TIMEOUT = {REQUEST_TIMEOUT}
api.http.protocol.ANSWER_TIMEOUT = {ANSWER_TIMEOUT}
"""


@pytest.fixture
def hurried(database: Database, tmp_path: Path) -> Iterator[Service]:
    """A service with shorter limits of time."""
    (tmp_path / "sitecustomize.py").write_text(HURRIED)
    with serving(DATABASE_URL=database.url(database.service), PYTHONPATH=tmp_path) as service:
        yield service


def sent_slowly(service: Service, *parts: bytes) -> dict:
    """Send a request's last part byte by byte until an answer comes, and return its problem."""
    *at_once, slowly = parts
    with socket.create_connection((service.host, service.port), timeout=60) as client:
        client.sendall(b"".join(at_once))
        for byte in itertools.cycle(slowly):
            if select.select([client], [], [], REQUEST_TIMEOUT / 10)[0]:
                break
            client.send(bytes([byte]))
        answer = b""
        while b"}}" not in answer:
            read = client.recv(65536)
            assert read, "it was cut off without an answer"
            answer += read
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    return json.loads(body)


def test_a_request_whose_header_comes_slowly_is_cut_off(hurried: Service) -> None:
    assert sent_slowly(hurried, b"GET /api/groups HTTP/1.1\r\nX: ", b"x")["code"] == "request_timeout"


def test_a_request_whose_body_comes_slowly_is_cut_off(hurried: Service) -> None:
    fields = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    head = b"POST /api/groups HTTP/1.1\r\n" + fields
    assert sent_slowly(hurried, head, b" ")["code"] == "request_timeout"


def test_time_between_requests_does_not_count_as_a_requests(hurried: Service) -> None:
    request = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((hurried.host, hurried.port), timeout=60) as client:
        for _ in range(3):
            client.sendall(request)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")
            # Nothing comes for longer than a request may take.
            assert select.select([client], [], [], 2 * REQUEST_TIMEOUT)[0] == []


@pytest.fixture
def large_page(database: Database) -> str:
    """The path of a page of a megabyte."""
    with database.connect() as service:
        return f"/api/groups/{create_large(service)}/participants"


@pytest.mark.parametrize("taken", [0, 1024], ids=["not at all", "slowly"])
def test_a_client_that_does_not_read_its_answers_is_cut_off(taken: int, hurried: Service, large_page: str) -> None:
    (worker,) = hurried.workers
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((hurried.host, hurried.port))
        port = client.getsockname()[1]

        def connected() -> bool:
            if taken and select.select([client], [], [], 0.05)[0]:
                client.recv(taken)
            return any(c.raddr and c.raddr.port == port for c in psutil.Process(worker).net_connections("tcp"))

        # As much as the system does not take off the service's hands.
        client.sendall(f"GET {large_page} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 20)
        until(connected, "the connection to be accepted")
        until(lambda: not connected(), "the connection to be given up")
    assert hurried.answers()


def test_an_idle_connection_is_kept_longer_than_by_a_load_balancer(app: App) -> None:
    async def is_kept(seconds: float) -> bool:
        """Whether a connection is still open that has been idle for so long."""
        loop = asyncio.get_running_loop()
        ours, client = socket.socketpair()
        with client:
            _, connection = await loop.create_connection(lambda: Connection(loop=loop, app=app), sock=ours)
            await asyncio.sleep(0)  # its task begins to wait for a request
            connection._time -= seconds
            connection.check_timeouts()
            return not connection._task.cancelling()

    async def main() -> None:
        await app._startup()
        assert await is_kept(LOAD_BALANCER_KEEPS + 10)
        assert not await is_kept(KEEP_ALIVE_TIMEOUT + 1)

    asyncio.run(main())


HEAD = b"POST /read HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

# The part of a request that has arrived when its time is over.
UNFINISHED = {
    "half of a head": HEAD,
    "half a line": b"POST /re",
    "an empty line": b"\r",
    "half a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "no byte of a body": HEAD + b"Content-Length: 100\r\n\r\n",
    "half a body of HTTP/1.0": HEAD.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nContent-Length: 100\r\n\r\n{",
    "half a body with Upgrade": HEAD + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 100\r\n\r\n{",
    "half a body with an upgrade to HTTP/2": HEAD
    + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 9\r\n\r\n{",
    "half a body that was waited for": HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n{",
    "tiny chunks": CHUNKED + b"1\r\n{\r\n" * 1000,
    "tiny chunks with Upgrade": HEAD
    + b"Upgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"1\r\n{\r\n" * 1000,
    "half the size of a chunk": CHUNKED + b"1",
    "half an extension": CHUNKED + b"1;a=b",
    "half a chunk": CHUNKED + b"5\r\n{",
    "trailers": CHUNKED + b"0\r\n" + b"X: y\r\n" * 1000,
}

# The same of a request that follows an answer, or that has had one: its time begins with the answer.
ANSWERED = {
    "half a head behind a request": HEAD + b"Content-Length: 0\r\n\r\n" + HEAD,
    "half a body that is not wanted": HEAD.replace(b"read", b"none") + b"Content-Length: 100\r\n\r\n{",
    "half a body with Upgrade that is not wanted": HEAD.replace(b"read", b"none")
    + b"Upgrade: websocket\r\nContent-Length: 100\r\n\r\n{",
}


async def nothing_is_under_way() -> None:
    """Return once every task of the loop has had its turns."""
    for _ in range(200):
        await asyncio.sleep(0)


@pytest.mark.parametrize("sent", [*UNFINISHED.values(), *ANSWERED.values()], ids=[*UNFINISHED, *ANSWERED])
def test_every_request_has_the_same_time_limit(app: App, sent: bytes) -> None:
    """The last bytes come a second before the time is over."""

    async def take(request: Request) -> HTTPResponse:
        await drop_body(request)
        return HTTPResponse()

    async def main() -> bytes:
        app.add_route(take, "/read", ["POST"], stream=True, ctx_path="/api/groups")
        await app._startup()
        loop = asyncio.get_running_loop()
        ours, client = socket.socketpair()
        client.setblocking(False)
        with client:
            _, connection = await loop.create_connection(lambda: Connection(loop=loop, app=app), sock=ours)
            connection.data_received(sent[:1])
            await nothing_is_under_way()
            assert connection._callback_check_timeouts is not None, "nobody looks at its time"
            connection._time -= application.REQUEST_TIMEOUT - 1
            if sent[1:]:
                connection.data_received(sent[1:])
            await nothing_is_under_way()
            connection._time -= application.REQUEST_TIMEOUT + 1 if sent in ANSWERED.values() else 2
            connection.check_timeouts()
            received = b""
            while read := await asyncio.wait_for(loop.sock_recv(client, 65536), 20):
                received += read
            return received

    received = asyncio.run(main())
    assert (b" 408 " in received) == (b"/none" not in sent)


def test_connections_detect_vanished_clients() -> None:
    with listen("127.0.0.1", free_port()) as sock, socket.create_connection(sock.getsockname()):
        accepted, _ = sock.accept()
        with accepted:
            found = {option: accepted.getsockopt(*option) for option in KEEPALIVE}
    assert found == KEEPALIVE


@pytest.fixture
def few_files() -> Iterator[None]:
    """This process, and those that it starts, may have few files open unless they ask for more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_worker_may_have_as_many_connections_as_the_system_allows(few_files: None, database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service)) as service:
        (worker,) = service.workers
        soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    assert soft == hard > 512


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may have as many files open as the system allows."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < IDLE + SLOW + 1000:
        pytest.skip(f"the system allows no more than {limits[1]} open files (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def connected(service: Service, sent: bytes, stack: ExitStack) -> socket.socket:
    """A client's connection on which something was sent; reset in the end, so that the system forgets its port."""
    client = stack.enter_context(socket.create_connection((service.host, service.port), timeout=60))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sendall(sent)
    return client


def test_many_idle_or_slow_clients_do_not_block_others(database: Database, many_files: None) -> None:
    live = request("GET", "/api/health/live")
    with serving(DATABASE_URL=database.url(database.service)) as service, ExitStack() as stack:
        idle = []
        for _ in range(IDLE // 100):
            together = [connected(service, live, stack) for _ in range(100)]
            assert all(client.recv(65536).startswith(b"HTTP/1.1 200") for client in together)
            idle += together
        for _ in range(SLOW):
            connected(service, live[:-2], stack)
        outcome = send(Server(service.port), [request("GET", "/api/groups")], BUSY, seconds=2)
        assert outcome.p999 < LATEST_ANSWER
        closed = select.poll()
        for client in idle:
            closed.register(client, select.POLLIN)
        assert closed.poll(0) == []
        assert service.answers()
