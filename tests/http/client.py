"""A client that sends exactly a test's bytes, and a service to send them to."""

import http.client
import json
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.running.commands import environment, free_port, started
from tests.support import Database

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def data(self):
        return self.json["data"]


@dataclass(frozen=True)
class Service:
    """A running `ledger serve`, and the secret of the API key that requests carry, if they carry one."""

    port: int
    database: Database
    secret: str = ""

    def __call__(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request; `body` is JSON text, or a value to render as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            content = body if body is None or isinstance(body, str | bytes) else json.dumps(body)
            if isinstance(content, str):
                content = content.encode()
            key = {"Authorization": f"Bearer {self.secret}"} if self.secret else {}
            given = (JSON if content is not None else {}) | key | dict(headers or {})
            connection.request(method, path, content, given)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def raw(self, sent: bytes) -> bytes:
        """Send bytes as they are, close our side, and return the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def serving(database: Database) -> Iterator[Service]:
    """Run `ledger serve` on a database, open to everybody while there is no API key."""
    port = free_port()
    settings = environment(DATABASE_URL=database.url(database.service), PORT=str(port))
    with started(None, ["serve", "--insecure"], settings, sys.__stderr__) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("Ledger answers on"), "it did not start"
            yield Service(port, database)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def problem(answer: Answer, status: int, code: str) -> dict:
    """The problem details of a refusal, which every refusal has in the same shape."""
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json
    assert body["code"] == code
    assert body["type"] == f"/problems/{code.replace('_', '-')}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["errors"]
    if "detail" in body["errors"]:
        assert body["errors"] == {"detail": body["title"]}
    else:
        assert all(isinstance(messages, list) and messages for messages in body["errors"].values())
    return body
