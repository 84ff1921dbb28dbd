"""Clients that disconnect while the service handles their requests leave no error in the log."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from types import SimpleNamespace
from typing import ClassVar

import psycopg
import pytest
from sanic import Request
from sanic.compat import Header

from api.http import app as application
from api.http.app import App
from api.http.bodies import WEIGHTY, WEIGHTY_CALLS, Turns
from api.http.export import Exports
from api.http.gauges import Gauges
from api.http.protocol import UNFINISHED, Connection
from api.http.request import LoggedRequest
from api.postgres import pools
from api.routes import ROUTES, Route
from tests.running.commands import Service, serving
from tests.support import Database, create_large, join, one, until

HOST = b"Host: localhost\r\n"


@pytest.fixture
def service(database: Database) -> Iterator[Service]:
    with serving(DATABASE_URL=database.url(database.service)) as service:
        yield service


@pytest.fixture
def group(database: Database) -> int:
    with database.connect() as ledger:
        group = create_large(ledger)
        join(ledger, group, "the first one of the second page")
        return group


def post(path: str, body: object, *fields: bytes) -> bytes:
    content = json.dumps(body).encode()
    head = [b"POST %s HTTP/1.1" % path.encode(), b"Content-Type: application/json", *fields]
    return b"\r\n".join([*head, HOST + b"Content-Length: %d\r\n" % len(content), content])


def sent(group: int) -> dict[str, bytes]:
    """The bytes that a client has sent when it disconnects."""
    transfer = post(f"/api/groups/{group}/transfer", {"from": 1, "to": 2, "amount": 1})
    get = b"GET %s HTTP/1.1\r\n" + HOST + b"\r\n"
    return {
        "nothing": b"",
        "an empty line": b"\r\n",
        "half a head": b"GET /api/gr",
        "a head without its body": transfer[: transfer.index(b"{")],
        "half a body": transfer[:-5],
        "half a chunk": b"POST /api/groups HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        "half the trailers": b"POST /api/groups HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y",
        "a body that is waited for": post("/api/groups", {}, b"Expect: 100-continue")[:-2],
        "a transfer": transfer,
        "many transfers": transfer * 50,
        "a health check": get % b"/api/health",
        "a look at the process": get % b"/api/health/live",
        "a scrape": get % b"/metrics",
        "a page": get % b"/api/docs/5.31.0/swagger-ui-bundle.js",
        "a list": get % (b"/api/groups/%d/participants" % group),
        "many lists": get % (b"/api/groups/%d/participants" % group) * 20,
        "a whole list": get.replace(HOST, HOST + b"Accept: text/csv\r\n") % (b"/api/groups/%d/participants" % group),
        "a request that is none": b"nonsense\r\n\r\n",
        "an unknown path": get % b"/nothing",
        "a refused body": post("/api/nothing", {"a": "x" * 100})[:-5],
        "a body that nobody reads": post("/api/health/live", {}).replace(b"POST", b"GET"),
        "an upgrade": transfer.replace(HOST, HOST + b"Upgrade: websocket\r\n"),
    }


def go(service: Service, content: bytes, how: str) -> None:
    """Send them and disconnect: by a reset, by an orderly end, or by the end of the client's side."""
    with socket.create_connection((service.host, service.port), timeout=60) as client:
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(content)
        if how == "half":
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 20):
                pass


def test_a_client_that_disconnects_at_any_stage_leaves_no_error_in_the_log(service: Service, group: int) -> None:
    assert service.answers()
    for content in sent(group).values():
        for how in ("reset", "end", "half"):
            go(service, content, how)
    until(lambda: in_flight(service) == 0, "every request to be over")
    assert service.answers()
    assert [line for line in service.said().splitlines() if line.startswith("{")] == []


def test_a_client_that_disconnects_before_its_answer_leaves_no_error_in_the_log(
    service: Service, group: int, database: Database
) -> None:
    """Both alone and beside another client, whose connection stays."""
    requests = sent(group)
    _, page = service.ask("GET", "/api/entries")
    with database.connect(database.admin, autocommit=False) as admin, database.connect(database.admin) as observer:
        for how, beside in product(("reset", "end", "half"), (False, True)):
            _, page = service.ask("GET", page["next"])
            poll = b"GET %s&wait=30 HTTP/1.1\r\n" % page["next"].encode() + HOST + b"\r\n"
            admin.execute("select from ledger.participants where id = 1 for update")
            other = socket.create_connection((service.host, service.port), timeout=60) if beside else None
            for content in (requests["a transfer"], poll):
                with socket.create_connection((service.host, service.port), timeout=60) as client:
                    if how == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.sendall(content)
                    if content != poll:
                        until(lambda: waits(observer), "the transfer to wait")
                    if how == "half":
                        client.shutdown(socket.SHUT_WR)
                        assert client.recv(65536) == b""
            if other is not None:
                other.close()
            admin.rollback()
            until(lambda: in_flight(service) == 0, "every request to be over")
            assert [line for line in service.said().splitlines() if line.startswith("{")] == [], (how, beside)


def waits(observer: psycopg.Connection) -> bool:
    return one(observer, "select exists (select from pg_locks where not granted)")[0]


def in_flight(service: Service) -> int:
    connection = socket.create_connection((service.host, service.port), timeout=60)
    with connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        text = b"".join(iter(lambda: connection.recv(65536), b""))
    (value,) = (line.split()[1] for line in text.splitlines() if line.startswith(b"ledger_requests_in_flight "))
    return int(float(value)) - 1  # this one


def test_a_stop_during_an_incomplete_request_leaves_no_error_in_the_log(database: Database) -> None:
    with serving(DATABASE_URL=database.url(database.service)) as service:
        assert service.answers()
        clients = []
        for content in (
            b"GET /api/gr",
            b"\r\n",
            b"",
            b"POST /api/groups HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\n{",
        ):
            client = socket.create_connection((service.host, service.port), timeout=60)
            client.sendall(content)
            clients.append(client)
        assert service.stop() == 0
        for client in clients:
            client.close()
        assert [line for line in service.said().splitlines() if line.startswith("{")] == []


def test_the_request_of_a_disconnected_client_is_logged(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other client is connected, and the transport knows its protocol no more."""
    recorded: list[object] = []
    record = LoggedRequest.record

    def watched(request: LoggedRequest, status: int) -> None:
        recorded.append((status, request.transport.get_protocol()))
        try:
            record(request, status)
        except Exception as error:
            recorded.append(error)
            raise

    async def wait(request: Request) -> None:
        arrived.set()
        await asyncio.Event().wait()

    async def scrape(request: Request) -> None:
        arrived.set()
        with suppress(asyncio.CancelledError):  # as a call may that ends at the same time
            await asyncio.Event().wait()
        gauges.telemetry.connections = ()
        recorded.append(await gauges.text(request))

    class Silent:
        pools: ClassVar[dict] = {}

        class activity:  # noqa: N801 - it replaces an attribute
            ask = staticmethod(lambda statement: asyncio.sleep(0))

    gauges = Gauges(app.ctx.telemetry, Silent(), [])
    arrived = asyncio.Event()
    monkeypatch.setattr(LoggedRequest, "record", watched)

    async def main() -> None:
        for handler in (wait, scrape):
            app.add_route(handler, f"/{handler.__name__}", ["GET"], stream=True, ctx_path="/api/groups")
        await app._startup()
        loop = asyncio.get_running_loop()
        connections: set = set()
        for path in (b"/wait", b"/scrape"):
            arrived.clear()
            ours, client = socket.socketpair()
            _, connection = await loop.create_connection(
                lambda: Connection(loop=loop, app=app, connections=connections), sock=ours
            )
            client.sendall(b"GET %s HTTP/1.1\r\n" % path + HOST + b"\r\n")
            await arrived.wait()
            task = connection._task
            client.close()
            await asyncio.wait({task})
            assert connections == set()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert recorded[0] == (499, None)
    assert not [each for each in recorded if isinstance(each, Exception)]
    assert any(isinstance(each, bytes) for each in recorded)


def test_a_call_keeps_its_turn_when_its_client_disconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that send a large body and disconnect get no more calls at a time than others."""

    async def main() -> None:
        turns, finished = Turns(), asyncio.Event()
        under_way = 0

        class Waiting(pools.Database):
            async def call(self, *_: object) -> list[bytes | None]:
                nonlocal under_way
                under_way += 1
                await finished.wait()
                under_way -= 1
                return [b"{}", None, None, b"f"]

        async def admit(*_: object) -> float:
            return 0.0

        async def take_a_turn(route: Route, request: LoggedRequest, turns: Turns, parts: object) -> dict[str, None]:
            await turns.take(request, WEIGHTY + 1)
            return {}

        monkeypatch.setattr(application, "read_arguments", take_a_turn)
        (route,) = (route for route in ROUTES if route.function == "transfer_all")
        handler = application.handle(
            route, Waiting("postgresql://", "test"), SimpleNamespace(admit=admit), None, turns, None, Exports()
        )
        requests = [SimpleNamespace(turns=(), only_group=None, headers=Header(), match_info={}) for _ in range(9)]
        clients = [asyncio.create_task(handler(request)) for request in requests[:6]]
        await asyncio.sleep(0.01)
        for client in clients:
            client.cancel()
        clients = [asyncio.create_task(handler(request)) for request in requests[6:]]
        await asyncio.sleep(0.01)
        assert under_way == WEIGHTY_CALLS
        finished.set()
        assert [answer.status for answer in await asyncio.gather(*clients)] == [200] * 3
        assert not any(request.turns for request in requests)
        for _ in range(WEIGHTY_CALLS):
            await turns.weighty.acquire()

    asyncio.run(main())


def test_a_lost_connection_holds_no_memory(app: App) -> None:
    async def main() -> None:
        await app._startup()
        loop = asyncio.get_running_loop()
        ours, client = socket.socketpair()
        with client:
            transport, connection = await loop.create_connection(lambda: Connection(loop=loop, app=app), sock=ours)
            connection.data_received(b"POST / HTTP/1.1\r\nX: " + b"x" * 8192)
            assert connection in UNFINISHED.held
            transport.abort()
            await asyncio.sleep(0.01)
            assert connection not in UNFINISHED.held
            # As its handler does in the end.
            connection.hold_body(0)
            connection.hold_body(100_000)
            assert connection not in UNFINISHED.held

    asyncio.run(main())
