"""Send responses: large ones in slices, without a copy of the body for each client."""

import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from sanic import HTTPResponse
from sanic.exceptions import RequestCancelled
from sanic.headers import format_http1_response
from sanic.response.types import BaseHTTPResponse

from api.problems import Problem

if TYPE_CHECKING:
    from sanic.http import Http

    from api.http.framing import StrictHttp
    from api.http.protocol import Connection

logger = logging.getLogger("ledger")

# Bytes of a response that are handed over at a time, and again as its client reads them.
SLICE = 64 << 10

# A header field: its name and its value.
Pair = tuple[str, str]

# The policy of every response that is no page of the documentation.
UNCACHED: tuple[Pair, ...] = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))


class Response(HTTPResponse):
    """A response, handed over slice by slice, as its client reads it, where it is large.

    Other clients may be getting the same `body`; the `tail` after it is this client's own. The header is a list of
    pairs: the service knows each of its fields, gives each once, and none holds a line end. Sanic's Header looks up
    and checks each of them, which takes as long as reading the request; only what Sanic adds itself is in `headers`.
    """

    __slots__ = ("handed_over", "pairs", "tail")

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        pairs: Iterable[Pair] = (),
        content_type: str | None = None,
        tail: bytes = b"",
        policy: Iterable[Pair] = UNCACHED,
    ) -> None:
        if len(body) + len(tail) <= SLICE:
            body, tail = body + tail, b""
        BaseHTTPResponse.__init__(self)  # type: ignore[no-untyped-call]  # HTTPResponse makes a second Header
        self.body: bytes = body
        self.status = status
        self.content_type = content_type
        self.pairs = [*policy, *pairs]
        self.tail = tail
        self.handed_over = 0  # bytes of the body, if it is large

    @property
    def length(self) -> int:
        return len(self.body) + len(self.tail)

    def head(self, keep_alive: bool) -> bytes:
        """Return the head of an answer whose body is not empty."""
        return self.framed_head(keep_alive, f"content-length: {self.length}\r\n")

    def framed_head(self, keep_alive: bool, framing: str) -> bytes:
        """Return the head of an answer; `framing` is the line that says where its body ends."""
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.pairs])
        connection = "keep-alive" if keep_alive else "close"
        return (
            f"{status_line(self.status)}{fields}{framing}connection: {connection}\r\n"
            f"content-type: {self.content_type}\r\n\r\n"
        ).encode("ascii")

    @property
    def processed_headers(self) -> Iterator[tuple[bytes, bytes]]:
        """The whole header, for a response whose head Sanic writes: one without a body, or after `Expect`."""
        for name, value in self.pairs:
            yield name.encode("ascii"), value.encode("ascii")
        yield from super().processed_headers

    def send(self, data: Any = None, end_stream: bool | None = None) -> Coroutine[Any, Any, None]:
        if data is None and self.length > SLICE:
            if not cast("Any", self.stream).head_only:
                return self.send_slices(self.body)
            self.body += self.tail  # Sanic sends its length
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
            cast("Any", self.stream).response_func = None  # the client has disconnected: nothing more is sent
            raise
        connection.answered()


class StreamedResponse(Response):
    """A response of many pages, each of which is read once the client has read the one before it.

    A response that cannot be completed ends with a reset of its connection, so that no client takes it for whole.
    """

    __slots__ = ("pages",)

    def __init__(self, pages: AsyncIterator[bytes], pairs: Iterable[Pair], content_type: str) -> None:
        super().__init__(b"", 200, pairs, content_type)
        self.pages = pages

    def send(self, data: Any = None, end_stream: bool | None = None) -> Coroutine[Any, Any, None]:
        return self.send_pages() if data is None else super().send(data, end_stream)

    async def send_pages(self) -> None:
        stream = cast("StrictHttp", self.stream)
        connection = cast("Connection", stream.protocol)
        await stream.begin_stream(self)
        if stream.head_only:
            return
        try:
            async for page in self.pages:
                self.body, self.handed_over = page, 0
                rest = memoryview(page)
                while rest:
                    slice_ = rest[:SLICE]
                    rest = rest[SLICE:]
                    self.handed_over += len(slice_)
                    await super().send(cast("Any", slice_), False)
                # The time that a client has to read begins again with the next page.
                await connection.until_read()
                self.body = b""
            await super().send(cast("Any", b""), True)
        except RequestCancelled:
            stream.response_func = None  # the client has disconnected: nothing more is sent
            raise
        except Exception as error:
            # A refusal says all; any other exception is unexpected, and its frames are of use.
            reason = f": {error.detail}" if isinstance(error, Problem) else ""
            cause = None if reason else error
            extra = {"request_id": str(stream.request.id)}
            logger.log(logging.WARNING, "an answer was cut off%s", reason, exc_info=cause, extra=extra)
            stream.response_func = None
            connection.reset()
            raise RequestCancelled from error


@cache
def status_line(status: int) -> str:
    return format_http1_response(status, ()).decode().removesuffix("\r\n")
