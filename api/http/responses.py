"""The answers that are no problems: large ones are sent in slices, and no byte of them is copied for each client."""

from collections.abc import Coroutine
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from sanic import HTTPResponse
from sanic.compat import Header
from sanic.exceptions import RequestCancelled
from sanic.headers import format_http1_response

if TYPE_CHECKING:
    from sanic.http import Http

    from api.http.protocol import Connection

# Bytes of an answer that are handed over at a time, and again as its client reads them.
SLICE = 64 << 10
# What every answer has that is no page of the documentation.
UNCACHED = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Answer(HTTPResponse):
    """A success, handed over slice by slice, as its client reads it, where it is large.

    Other clients may be getting the same body; what only this one gets is the `tail` after it. The headers are made of
    numbers, paths and words of ours: nothing in them can end a line. Sanic looks for that in each of them, and keeps
    them where one may be given twice, which takes as long as reading the request.
    """

    def __init__(
        self, body: bytes, status: int, headers: dict[str, str], content_type: str | None = None, tail: bytes = b""
    ) -> None:
        if len(body) + len(tail) <= SLICE:
            body, tail = body + tail, b""
        super().__init__(body, status, content_type=content_type)
        self.headers = cast("Header", headers)
        self.tail = tail
        self.handed_over = 0  # bytes of the body, if it is large

    @property
    def length(self) -> int:
        return len(self.body or b"") + len(self.tail)

    def head(self, keep_alive: bool) -> bytes:
        """What is sent before the body, which is not empty."""
        self.headers["content-length"] = str(self.length)
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.headers.items()])
        connection = "keep-alive" if keep_alive else "close"
        return (
            f"{status_line(self.status)}{fields}connection: {connection}\r\ncontent-type: {self.content_type}\r\n\r\n"
        ).encode("ascii")

    def send(self, data: Any = None, end_stream: bool | None = None) -> Coroutine[Any, Any, None]:
        if data is None and self.body is not None and self.length > SLICE:
            if not cast("Any", self.stream).head_only:
                return self.send_slices(self.body)
            self.body += self.tail  # Sanic tells its length
        return super().send(data, end_stream)

    async def send_slices(self, body: bytes) -> None:
        self.headers["content-length"] = str(self.length)
        connection = cast("Connection", cast("Http", self.stream).protocol)
        rest = memoryview(body)
        try:
            while rest:
                slice_ = rest[:SLICE]
                rest = rest[SLICE:]
                self.handed_over += len(slice_)
                await super().send(cast("Any", slice_), not rest and not self.tail)
            if self.tail:
                await super().send(cast("Any", self.tail), True)
        except RequestCancelled:
            cast("Any", self.stream).response_func = None  # the client has gone: what follows goes nowhere
            raise
        connection.answered()


@cache
def status_line(status: int) -> str:
    return format_http1_response(status, ()).decode().removesuffix("\r\n")
