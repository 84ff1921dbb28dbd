"""Beside clients that request as much as they can, others are served, and neither worker nor PostgreSQL grows."""

from __future__ import annotations

import json
import select
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from bench.hostile import ATTACKS, MIB, under_attack
from bench.ledgers import Ledger, served, workspace
from bench.load import Group
from tests.running.commands import serving
from tests.support import Database, call, create, join, until

MOST_PRIVATE = 300 * MIB  # bytes


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with workspace() as folder, served(folder / "data") as ledger:
        yield ledger


@pytest.fixture(scope="module")
def groups(ledger: Ledger) -> list[Group]:
    return ledger.fill(1, 1000)


@pytest.mark.parametrize("kind", ATTACKS)
def test_another_client_is_served_beside_a_hostile_one(kind: str, ledger: Ledger, groups: list[Group]) -> None:
    noticed = under_attack(ledger, groups, kind, seconds=1, before=1)
    assert noticed.refused == 0
    assert noticed.worker < MOST_PRIVATE
    assert noticed.backend < MOST_PRIVATE


def test_the_memory_of_large_requests_is_given_back() -> None:
    with workspace() as folder, served(folder / "data") as ledger:
        groups = ledger.fill(1, 1000)
        for kind in ("15 MiB of lines of emoji", "15 MiB of ones instead of lines"):
            under_attack(ledger, groups, kind, seconds=1, before=1)
        # Bodies that the stopped clients had begun are still being read and decoded.
        until(lambda: ledger.worker.memory_info().rss < 150 * MIB, "a worker of less than 150 MiB")


SMALL = """
import api.http.protocol
api.http.protocol.MAX_CONNECTIONS = 9
api.http.protocol.UNFINISHED.limit = 1 << 20
api.http.protocol.UNREAD.limit = 4 << 20
"""


@pytest.fixture
def port(database: Database, tmp_path: Path) -> Iterator[int]:
    """The port of a service with room for 9 connections, 1 MiB of requests not whole and 4 MiB of answers not read."""
    (tmp_path / "sitecustomize.py").write_text(SMALL)
    with serving(DATABASE_URL=database.url(database.service), PYTHONPATH=tmp_path) as service:
        yield service.port


def connected(port: int, stack: ExitStack, sent: bytes) -> socket.socket:
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sendall(sent)
    return client


LIVE = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_a_connection_above_the_limit_is_refused_and_the_others_are_served(port: int) -> None:
    with ExitStack() as stack:
        clients = [connected(port, stack, LIVE) for _ in range(9)]
        assert all(client.recv(65536).startswith(b"HTTP/1.1 200") for client in clients)
        one_more = connected(port, stack, b"")
        head, _, body = b"".join(iter(lambda: one_more.recv(65536), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in head.lower()
        assert b"cache-control: no-store" in head.lower()
        assert b"\r\ndate: " in head.lower()
        assert json.loads(body)["code"] == "busy"
        clients[0].sendall(LIVE)
        assert clients[0].recv(65536).startswith(b"HTTP/1.1 200")
        clients[0].close()


def read_so_far(client: socket.socket) -> None:
    """Return when the service has read what others sent: it answers after reading more in each turn of its loop."""
    for _ in range(20):
        client.sendall(LIVE)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_the_oldest_incomplete_request_is_cut_off_to_make_room(port: int) -> None:
    head = (
        b"POST /api/groups HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    with ExitStack() as stack:
        oldest = connected(port, stack, head % MIB + b" " * 600_000)
        third = connected(port, stack, b"")
        read_so_far(third)
        last = connected(port, stack, head % MIB + b" " * 300_000)
        read_so_far(third)
        body = b'{"name": "' + b"x" * 200_000 + b'"}'
        third.sendall(head % len(body) + body)
        assert third.recv(65536).startswith(b"HTTP/1.1 422")
        with suppress(ConnectionResetError):
            assert oldest.recv(65536) == b""
        last.sendall(b"x" * (MIB - 300_000))
        assert last.recv(65536).startswith(b"HTTP/1.1 400")


@pytest.fixture
def write_page(database: Database) -> Iterator[Callable[[], object]]:
    """Writes entries whose page has 1.5 MB, all at the same time."""
    with database.connect() as service:
        group = create(service, "ETH")
        one, two = join(service, group, "one", 1000), join(service, group, "two")
        lines = [{"from": one, "to": two, "amount": 1, "metadata": {"note": "x" * 1400}}] * 1000
        yield lambda: call(service, "transfer_all", group, json.dumps(lines))


def asking(port: int, stack: ExitStack, path: str) -> socket.socket:
    """A client that asks for a page and does not read it."""
    client = stack.enter_context(socket.socket())
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return client


def read(client: socket.socket) -> bytes:
    """The body of an answer. Raises EOFError for one that is not whole."""
    head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
    if f"content-length: {len(body)}\r\n".encode() not in head.lower() + b"\r\n":
        raise EOFError
    return body


def test_a_shared_answer_is_held_in_memory_once(port: int, write_page: Callable[[], object]) -> None:
    with ExitStack() as stack:
        cursor = json.loads(read(asking(port, stack, "/api/entries")))["next"]
        clients = [asking(port, stack, f"{cursor}&wait=30") for _ in range(8)]
        read_so_far(connected(port, stack, b""))
        write_page()
        select.select(clients, [], [], 60)
        first, *others = [json.loads(read(client)) for client in clients]
        assert len(first["data"]) == 1000
        assert all(other == first for other in others)


def test_the_oldest_unread_answer_is_cut_off_to_make_room(port: int, write_page: Callable[[], object]) -> None:
    write_page()
    with ExitStack() as stack:
        clients = []
        for _ in range(8):
            clients.append(asking(port, stack, "/api/entries"))
            select.select(clients[-1:], [], [], 60)
        with pytest.raises((EOFError, ConnectionResetError)):
            read(clients[0])
        assert len(json.loads(read(clients[-1]))["data"]) == 1000
