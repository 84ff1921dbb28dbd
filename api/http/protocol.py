"""Limit a client's use of a worker: time, memory, and the number of connections.

Sanic's time-outs start again at each byte, and it waits for clients that do not read an answer. Here a request's time
runs from its first byte to its last, and an answer's from when its client falls behind until it is read. The bytes of
incomplete requests and of unread answers are bounded for all connections of a worker together.
"""

import resource
import socket
import struct
from asyncio import TimerHandle
from time import monotonic
from typing import Any

from sanic.exceptions import RequestTimeout
from sanic.http import Stage
from sanic.server import HttpProtocol

from api.http.date import CLOCK
from api.http.framing import StrictHttp
from api.http.memory import Budget, Held
from api.http.responses import UNCACHED, Response
from api.problems import Problem
from api.telemetry.metrics import CONNECTIONS

# For an answer to be read: 4 MiB, the largest page, over a line of 600 kbit/s.
ANSWER_TIMEOUT = 60.0  # seconds
# Connections of a worker; one more is refused. So many idle ones take 130 MB.
MAX_CONNECTIONS = 16_384
OTHER_FILES = 128  # that a worker may have open beside its clients' connections
# Requests of up to so many bytes are not counted; ordinary ones are no longer.
SMALL = 4 << 10
MAX_UNFINISHED = 48 << 20  # bytes of requests that are not whole
MAX_UNREAD = 48 << 20  # bytes of answers that are not read
NO_LINGERING = struct.pack("ii", 1, 0)  # closing the socket resets its connection


class Connection(HttpProtocol):
    """A connection whose client is cut off when a request does not arrive, or an answer is not read, in time."""

    HTTP_CLASS = StrictHttp

    __slots__ = ("body_size", "unread", "unread_request")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.body_size = 0  # bytes that are read of the body
        self.unread: TimerHandle | None = None
        self.unread_request: object = None  # that the timer is for

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.count_connections()
        if len(self.connections) > self.app.ctx.max_connections:
            transport.write(too_many_connections())
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.count_connections()
        self.answered()
        UNFINISHED.release(self)

    def count_connections(self) -> None:
        self.app.ctx.telemetry.metrics.set(CONNECTIONS, number=len(self.connections))

    def cut_off(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def reset(self) -> None:
        """Cut off the client so that it notices: HTTP/1.0 has no other sign that an answer is not whole."""
        if self.transport is not None:
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGERING)
            self.transport.abort()

    async def until_read(self) -> None:
        """Wait until the client has read almost all that was sent; it then has its time again."""
        await self._can_write.wait()
        self.answered()

    def data_received(self, data: bytes) -> None:
        began = self._time
        super().data_received(data)
        if self.is_amid_a_request():
            self._time = began
        if UNFINISHED.held or len(self.recv_buffer) > SMALL:
            self.hold_unfinished()

    def is_amid_a_request(self) -> bool:
        """Whether what arrives belongs to a request that has begun, or to one that was refused before it was whole."""
        return self.http is not None and (self.http.stage is not Stage.IDLE or bool(self.http.request_body))

    def hold_body(self, size: int) -> None:
        """Note that so many bytes of the body are read and kept."""
        if size > SMALL or self.body_size or UNFINISHED.held:
            self.body_size = size
            self.hold_unfinished()

    def hold_unfinished(self) -> None:
        size, _ = self.unfinished()
        if size > SMALL and self.conn_info is not None and not self.conn_info.lost:
            UNFINISHED.hold(self, size, b"")
        else:
            UNFINISHED.release(self)

    def unfinished(self) -> Held:
        return self.body_size + len(self.recv_buffer), b""

    def unread_answers(self) -> Held:
        waiting = self.transport.get_write_buffer_size() if self.transport is not None else 0
        answer = self.http.response if self.http is not None else None
        # What waits of a large answer is no copy of it.
        if isinstance(answer, Response):
            return max(waiting - answer.handed_over, 0), answer.body or b""
        return waiting, b""

    def check_timeouts(self) -> None:
        # To Sanic a request is being handled once its header is there, and is over once it is refused, even if its body
        # is still coming.
        if (
            self._task is not None
            and self.http.stage in (Stage.HANDLER, Stage.IDLE)
            and self.http.request_body
            and monotonic() - self._time > self.request_timeout
        ):
            self.http.exception = RequestTimeout("Request Timeout")
            # Sanic would read the rest of the body after the answer, with no limit of time.
            self.http.request_body = None
            self._task.cancel()
        else:
            super().check_timeouts()

    def pause_writing(self) -> None:
        super().pause_writing()
        request = self.http.request if self.http is not None else None
        if self.unread is None or self.unread_request is not request:
            if self.unread is not None:
                self.unread.cancel()
            self.unread = self.loop.call_later(ANSWER_TIMEOUT, self.cut_off)
            self.unread_request = request
        UNREAD.hold(self, *self.unread_answers())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.http is None or self.http.stage is not Stage.RESPONSE:
            self.answered()

    def answered(self) -> None:
        """Stop waiting for the client to read, unless it has still to."""
        if self.unread is not None and self._can_write.is_set():
            self.unread.cancel()
            self.unread = self.unread_request = None
            UNREAD.release(self)


UNFINISHED = Budget(MAX_UNFINISHED, Connection.unfinished)
UNREAD = Budget(MAX_UNREAD, Connection.unread_answers)


def connection_limit() -> int:
    """Return how many connections a worker may have: as many as it can open, at most MAX_CONNECTIONS."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else max(min(MAX_CONNECTIONS, files - OTHER_FILES), 1)


def too_many_connections() -> bytes:
    """Return the response to a client whose connection exceeds the limit."""
    problem = Problem("busy", "the server has too many connections; nothing was done")
    headers = {
        "content-type": "application/problem+json",
        "connection": "close",
        "date": CLOCK.now(),
        **dict(UNCACHED),
    } | problem.all_headers
    body = problem.body()
    lines = [f"{name}: {value}" for name, value in (headers | {"content-length": str(len(body))}).items()]
    return "\r\n".join(["HTTP/1.1 503 Service Unavailable", *lines, "", ""]).encode() + body
