"""Whole lists beside what ends them: a key that is revoked, a client that does not read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.running.commands import Service, serving
from tests.support import Database, create_crowd, one, until

HURRIED = """
import api.http.auth, api.http.protocol
api.http.auth.API_KEY_CACHE_SECONDS = 0.05
api.http.protocol.ANSWER_TIMEOUT = 1
"""


@pytest.fixture
def path(database: Database) -> str:
    """The path of a list of more bytes than the system takes off the service's hands: 11 pages of 0.8 MB."""
    with database.connect(database.admin) as admin:
        group = create_crowd(admin, 11_000, "€" * 250)
    return f"/api/groups/{group}/participants"


@pytest.fixture
def hurried(database: Database, path: str, tmp_path: Path) -> Iterator[Service]:
    """A service that asks for a key, with shorter limits of time."""
    (tmp_path / "sitecustomize.py").write_text(HURRIED)
    with serving(DATABASE_URL=database.url(database.service), PYTHONPATH=tmp_path) as service:
        yield service


def asked(service: Service, path: str, secret: str) -> socket.socket:
    """A client that has asked for the whole list, and has read its first bytes."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(60)
    client.connect((service.host, service.port))
    key = f"Authorization: Bearer {secret}\r\n"
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/csv\r\n{key}\r\n".encode())
    assert client.recv(12) == b"HTTP/1.1 200"
    return client


def read_to_the_end(client: socket.socket) -> bytes:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    read = b""
    while not read.endswith(b"\r\n0\r\n\r\n"):
        more = client.recv(1 << 20)
        assert more, "it was cut off without a reset"
        read += more
    return read


def test_a_key_that_is_revoked_ends_its_lists(hurried: Service, path: str, database: Database) -> None:
    with database.connect(database.admin) as admin:
        number, secret = one(admin, "select id, secret from ledger.create_api_key('export', 'read')")
        with asked(hurried, path, secret) as client:
            assert b'"p11000' in read_to_the_end(client)
        with asked(hurried, path, secret) as client:
            admin.execute("select ledger.revoke_api_key(%s)", [number])
            with pytest.raises(ConnectionResetError):
                read_to_the_end(client)
    assert "an answer was cut off: the API key is not known, or was revoked" in hurried.said()


def test_a_client_that_does_not_read_its_list_is_cut_off(hurried: Service, path: str, database: Database) -> None:
    (worker,) = hurried.workers
    with database.connect(database.admin) as admin:
        (secret,) = one(admin, "select secret from ledger.create_api_key('export', 'read')")
    with asked(hurried, path, secret) as client:
        port = client.getsockname()[1]
        until(
            lambda: all(c.raddr.port != port for c in psutil.Process(worker).net_connections("tcp") if c.raddr),
            "the connection to be given up",
        )
