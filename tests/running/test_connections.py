"""How workers share the connections of one socket, and that none is lost with a worker."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import time
from contextlib import ExitStack, closing

import psutil
import pytest

from api.server import acceptor
from api.server.acceptor import Acceptor, Loop, is_ahead
from tests.running.commands import PATIENCE, Service, serving
from tests.support import Database, one, until

LIVE = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
MANY, STEP = 30, 5  # connections
CONNECTIONS = 16  # of a worker to the database, but for probes


def opened(service: Service) -> socket.socket:
    """A connection with a request, which may wait for a worker."""
    connection = socket.create_connection((service.host, service.port), timeout=PATIENCE)
    connection.sendall(LIVE)
    return connection


def is_answered(connection: socket.socket) -> bool:
    return connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def shares(service: Service) -> list[int]:
    """The number of connections that each worker has."""
    return [
        sum(
            each.status == psutil.CONN_ESTABLISHED and each.laddr.port == service.port
            for each in psutil.Process(worker).net_connections("tcp")
        )
        for worker in service.workers
    ]


def test_connections_outlive_a_killed_worker_and_its_replacement_gets_the_next_ones(database: Database) -> None:
    with (
        ExitStack() as stack,
        serving("--workers", "2", DATABASE_URL=database.url(database.service)) as service,
    ):
        killed, other = service.workers
        for worker in (killed, other):
            os.kill(worker, signal.SIGSTOP)
        # Connected by the kernel, and accepted by no worker.
        connections = [stack.enter_context(opened(service)) for _ in range(MANY)]
        os.kill(killed, signal.SIGKILL)
        os.kill(other, signal.SIGCONT)
        assert all(map(is_answered, connections))
        os.kill(other, signal.SIGSTOP)
        assert is_answered(stack.enter_context(opened(service)))  # by the replacement
        os.kill(other, signal.SIGCONT)
        # Opening its connections to the database keeps it busy.
        with database.connect(database.admin) as admin:
            sessions = "select count(*) from pg_stat_activity where application_name like %s"
            until(lambda: one(admin, sessions, ["ledger serve 0 %"])[0] >= CONNECTIONS, "every connection")
        # A worker that is held up loses some, and gets others for them.
        for _ in range(MANY, 4 * MANY, STEP):
            time.sleep(0.01)
            connections = [stack.enter_context(opened(service)) for _ in range(STEP)]
            assert all(map(is_answered, connections))
            numbers = shares(service)
            if abs(numbers[0] - numbers[1]) <= STEP:
                break
        else:
            pytest.fail(f"the workers have {numbers} connections")


@pytest.mark.parametrize(
    ("own", "least", "ahead"),
    [(0, 0, False), (1, 0, True), (16, 15, True), (17, 16, False), (170, 160, False), (171, 160, True)],
)
def test_a_worker_is_ahead_by_one_connection_or_a_sixteenth(own: int, least: int, ahead: bool) -> None:
    assert is_ahead(own, least) is ahead


class Answering(asyncio.Protocol):
    """Answers with a byte."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"1")  # type: ignore[attr-defined]


class WithoutFiles(socket.socket):
    """A listening socket whose process has no file free for the first connection."""

    failures = 1

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_a_worker_that_has_no_file_for_a_connection_accepts_it_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "PAUSE_AFTER_ERROR", 0.01)

    async def first_byte(server: Acceptor, port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = await reader.read(1)
        writer.close()
        server.close()
        await server.wait_closed()
        return answer

    with closing(Loop(lambda: False)) as loop, socket.create_server(("127.0.0.1", 0)) as listening:
        sock = WithoutFiles(fileno=listening.detach())
        port = sock.getsockname()[1]
        server = loop.run_until_complete(loop.create_server(Answering, sock=sock))
        assert loop.run_until_complete(first_byte(server, port)) == b"1"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert "cannot be accepted" in caplog.text
