"""Identify each request, and log and count it once it is answered."""

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

# Ids for requests without one: each process has another prefix.
ID_PREFIX = token_hex(8)
ID_NUMBERS = count(1)


@dataclass
class Telemetry:
    """A worker's metrics and log. `connections` are those of its clients, once there was a request."""

    metrics: Metrics
    log: Log
    connections: Collection[HttpProtocol] = ()


class LoggedRequest(Request, Trace):
    """A request that is logged and counted when it is answered, within a few microseconds."""

    problem: Problem | None = None  # why it was refused
    principal: str | None = None  # the id and name of its API key
    only_group: int | None = None  # the group of its API key, if the key is for one group
    recorded = False
    turns: Sequence[asyncio.Semaphore] = ()  # held while its large body is decoded and its call is made

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
            # Sanic's placeholder for a request that it could not parse. An invalid URL would raise again, unanswered.
            url_bytes = b"*"
        super().__init__(url_bytes, headers, version, method, transport, app, head, stream_id)

    @property
    def id(self) -> str:
        """The client's X-Request-ID, or a generated one where that is missing or malformed."""
        if self._id is None:
            given = self.headers.getone("x-request-id", None)
            self._id = given if given and REQUEST_ID.fullmatch(given) else f"{ID_PREFIX}-{next(ID_NUMBERS)}"
        return cast(str, self._id)

    async def respond(self, response: Any = None, **_: Any) -> Any:
        """Do what Sanic does with each response before it is sent, without middleware, and record the request."""
        if not isinstance(response, Response):  # Sanic's own, for an error that the error handler itself raised
            response = Response(response.body or b"", response.status, content_type=response.content_type)
        response.pairs += (("X-Request-ID", self.id), ("Date", CLOCK.now()))
        origins = self.app.ctx.origins
        if origins.allowed:
            origins.add_headers(self, response.pairs)
        if not self.recorded:  # a response that could not be sent is followed by another
            self.recorded = True
            self.record(response.status)
        cast("Http", self.stream).respond(response)
        self.responded = True
        return response

    def record(self, status: int) -> None:
        telemetry: Telemetry = self.app.ctx.telemetry
        began = cast("Http", self.stream).perft0  # None without a complete head
        seconds = perf_counter() - began if began else 0.0
        route = self.route
        path: str = route.ctx.path if route is not None else self.template()
        method = self.method if self.method in METHODS else OTHER
        code = sqlstate = None
        if self.problem is not None:
            code, sqlstate = self.problem.code, self.problem.sqlstate
            telemetry.metrics.add(REFUSED, code)
        telemetry.metrics.answered(path, method, status, seconds)
        if telemetry.log.requests is not None:
            kind = (path, method, status, code, sqlstate)
            telemetry.log.request((time(), self.id, self.backend, self.batch, self.principal, kind, seconds))
        if not telemetry.connections:
            # Not those of the transport's protocol: a client that has disconnected has none.
            telemetry.connections = cast("Http", self.stream).protocol.connections

    def template(self) -> str:
        """Return the path of the route for a method that it does not have; never the path that the client sent."""
        try:
            route, _, _ = self.app.router.get(self.path, "OPTIONS", None)
        except SanicException:
            return OTHER
        return cast(str, route.ctx.path)


def is_local(request: Request) -> bool:
    """Return whether the client is on this machine."""
    try:
        address = ip_address(request.ip)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
