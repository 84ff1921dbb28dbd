"""What is noted of every request: its id, and once it is answered a line of the log and its place in the counts."""

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from itertools import count
from secrets import token_hex
from time import perf_counter, time
from typing import Any, cast

from sanic import Request
from sanic.compat import Header
from sanic.exceptions import SanicException
from sanic.http import Http
from sanic.models.protocol_types import TransportProtocol
from sanic.server.protocols.http_protocol import HttpProtocol

from api.http.date import CLOCK
from api.http.responses import Response
from api.postgres.pools import Trace
from api.problems import Problem
from api.telemetry.log import Log
from api.telemetry.metrics import METHODS, OTHER, REFUSED, Metrics

REQUEST_ID = re.compile("[A-Za-z0-9._-]{1,64}")

# Ids of our own: no two processes have the same beginning.
BEGINNING = token_hex(8)
NUMBERS = count(1)


@dataclass
class Watch:
    """Where a worker notes its requests. `connections` are those of clients, once one has asked something."""

    metrics: Metrics
    log: Log
    connections: Collection[HttpProtocol] = ()


class WatchedRequest(Request, Trace):
    """A request that is noted when it is answered. What is done for each is paid by each: a few microseconds."""

    problem: Problem | None = None  # what it was refused with
    principal: str | None = None  # the id and name of the API key that it came with
    only_group: int | None = None  # the group that the API key is for, where it is for one
    noted = False
    turns: Sequence[asyncio.Semaphore] = ()  # what it holds while its large body is decoded and called for

    def __init__(
        self,
        url_bytes: bytes,
        headers: Header,
        version: str,
        method: str,
        transport: TransportProtocol,
        app: Any,
        head: bytes = b"",
        stream_id: int = 0,
    ) -> None:
        if not head:
            # Sanic's stand-in for one that it could not read. A URL that is none would fail once more, unanswered.
            url_bytes = b"*"
        super().__init__(url_bytes, headers, version, method, transport, app, head, stream_id)

    @property
    def id(self) -> str:
        """The client's X-Request-ID, or one of ours where that is missing or could do harm."""
        if self._id is None:
            given = self.headers.getone("x-request-id", None)
            self._id = given if given and REQUEST_ID.fullmatch(given) else f"{BEGINNING}-{next(NUMBERS)}"
        return cast(str, self._id)

    async def respond(self, response: Any = None, **_: Any) -> Any:
        """What Sanic does with every answer before it is sent, but for middleware, of which we have none."""
        if not isinstance(response, Response):  # Sanic's own, for an error that the error handler itself raised
            response = Response(response.body or b"", response.status, content_type=response.content_type)
        response.pairs += (("X-Request-ID", self.id), ("Date", CLOCK.now()))
        origins = self.app.ctx.origins
        if origins.allowed:
            origins.add_headers(self, response.pairs)
        if not self.noted:  # one that could not be sent is followed by another
            self.noted = True
            self.note(response.status)
        cast("Http", self.stream).respond(response)
        self.responded = True
        return response

    def note(self, status: int) -> None:
        watch: Watch = self.app.ctx.watch
        began = cast("Http", self.stream).perft0  # None where there was no whole head
        seconds = perf_counter() - began if began else 0.0
        route = self.route
        path: str = route.ctx.path if route is not None else self.template()
        method = self.method if self.method in METHODS else OTHER
        code = sqlstate = None
        if self.problem is not None:
            code, sqlstate = self.problem.code, self.problem.sqlstate
            watch.metrics.add(REFUSED, code)
        watch.metrics.answered(path, method, status, seconds)
        if watch.log.requests is not None:
            kind = (path, method, status, code, sqlstate)
            watch.log.request((time(), self.id, self.backend, self.batch, self.principal, kind, seconds))
        if not watch.connections:
            # Not those of the transport's protocol: a client that has gone has none.
            watch.connections = cast("Http", self.stream).protocol.connections

    def template(self) -> str:
        """The path of the route, when the method is none of its own; never the client's words."""
        try:
            route, _, _ = self.app.router.get(self.path, "OPTIONS", None)
        except SanicException:
            return OTHER
        return cast(str, route.ctx.path)


def is_local(request: Request) -> bool:
    """Whether whoever asks is on this machine."""
    try:
        address = ip_address(request.ip)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
