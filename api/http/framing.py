"""Frame requests and answers as in RFC 9112.

Sanic's own parser accepts requests that a proxy may read differently, so a client could smuggle a request past the
proxy. Here a request that does not have exactly the RFC's form is refused with 400, and its connection is closed.
"""

import re
from asyncio import CancelledError
from functools import lru_cache
from typing import Any, NoReturn, cast

from sanic.compat import Header
from sanic.exceptions import BadRequest, ExpectationFailed, PayloadTooLarge
from sanic.http import Http, Stage
from sanic.http.http1 import HTTP_CONTINUE
from sanic.models.protocol_types import TransportProtocol
from sanic.server.protocols.http_protocol import HttpProtocol

from api.http.responses import Response

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
REQUEST_LINE = re.compile(TOKEN + rb" [!-~]++ HTTP/1\.[01]")
FIELD = re.compile(rb"(" + TOKEN + rb"):([\t -~\x80-\xff]*+)")
QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
EXTENSION = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb"|" + QUOTED + rb"))?"
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})(?:" + EXTENSION + rb")*\r\n")
HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
ABSOLUTE = re.compile(r"https?://([^/?#]+)(.*)", re.IGNORECASE)
LENGTH = re.compile("[0-9]{1,18}")

# What can no longer become a head: a first byte that begins no method (TLS begins with 0x16), a line that ends without
# CR, a NUL.
HOPELESS = re.compile(rb"\A[^!#$%&'*+\-.^_`|~0-9A-Za-z]|(?<!\r)\n|\x00")

MALFORMED = "this is no request of HTTP/1.1 (RFC 9112)"

MAX_CHUNK_LINE = 1024  # bytes, extensions included

# The fields that say where a request ends and how the connection goes on.
FRAMING = frozenset({"host", "connection", "expect", "transfer-encoding", "content-length"})
REMEMBERED_FIELDS = 512
MAX_REMEMBERED = 256  # bytes of a field


class StrictHttp(Http):
    """Reads requests strictly, and writes the head of a response with a body; Sanic writes the others.

    No request changes the protocol of its connection: `Upgrade` and CONNECT are ignored and refused like any field and
    any method. Sanic would stop counting the time of a request with `Upgrade: websocket`.
    """

    __slots__ = ("amid_chunks",)

    amid_chunks: bool  # whether the CRLF of a chunk's data is due
    recv_buffer: bytearray
    response_func: Any
    request_body: Any  # "chunked", or whether there is more of it
    request_bytes: Any  # of the body: as many as the head said, or those of the chunks so far
    request_bytes_left: Any

    def __init__(self, protocol: HttpProtocol) -> None:
        super().__init__(protocol)  # type: ignore[no-untyped-call]
        self.request_body = None  # is looked at before the first request begins

    async def http1_request_header(self) -> None:
        """Read the next request up to its body. Raises SanicException for bytes that are no request, or too many."""
        try:
            end = self.recv_buffer.find(b"\r\n\r\n", 1)
            if not 0 < end < self.HEADER_MAX_SIZE or self.recv_buffer.startswith(b"\r"):
                end = await self.find_end_of_head()
        except CancelledError:
            # Sanic assumes that there is a request.
            self.create_empty_request()
            raise
        head = bytes(self.recv_buffer[:end])
        line, *lines = head.split(b"\r\n")
        if REQUEST_LINE.fullmatch(line) is None:
            refuse(MALFORMED)
        method, target, version = line.decode("ascii").split(" ")
        fields = [remembered_field(line) if len(line) < MAX_REMEMBERED else read_field(line) for line in lines]
        headers = Header(fields)
        length = self.frame(version, fields)
        if not target.startswith("/"):
            target = in_origin_form(method, target, headers)
        self.url = target
        self.head_only = method == "HEAD"

        request = self.protocol.request_class(
            url_bytes=target.encode("ascii"),
            headers=headers,
            head=head,
            version=version[5:],
            method=method,
            transport=cast("TransportProtocol", self.protocol.transport),
            app=self.protocol.app,
        )
        self.request_bytes = self.request_bytes_left = length or 0
        # A body of no bytes is none.
        self.request_body = "chunked" if length is None else bool(length)
        if not self.request_body:
            self.expecting_continue = False
        self.amid_chunks = False
        del self.recv_buffer[: end + 4]
        self.request, request.stream = request, self
        self.protocol.state["requests_count"] += 1

    async def find_end_of_head(self) -> int:
        """Wait for a whole head; where in the buffer its empty line begins."""
        buffer = self.recv_buffer
        if buffer.startswith(b"\r"):
            # One empty line before a request is left out (RFC 9112, 2.2); some clients end a body with it.
            while len(buffer) < 2:
                await self._receive_more()
            if buffer[:2] != b"\r\n":
                refuse("a CR is not followed by LF")
            del buffer[:2]
            if not buffer:
                self.stage = Stage.IDLE
                await self._receive_more()
                self.stage = Stage.REQUEST
        begin = 0
        while (end := buffer.find(b"\r\n\r\n", begin)) < 0 and len(buffer) < self.HEADER_MAX_SIZE:
            if HOPELESS.search(buffer, begin):
                refuse(MALFORMED)
            begin = max(0, len(buffer) - 3)
            await self._receive_more()
        if not 0 <= end < self.HEADER_MAX_SIZE:
            raise PayloadTooLarge("Request header exceeds the size limit")
        return end

    def frame(self, version: str, fields: list[tuple[str, str]]) -> int | None:
        """Note how the connection goes on; how many bytes the body has, None for a chunked one.

        Raises BadRequest for fields that contradict each other or are not defined, ExpectationFailed for an `Expect` of
        something else than `100-continue`.
        """
        is_new = version == "HTTP/1.1"
        given: dict[str, list[str]] = {}
        for name, value in fields:
            if name in FRAMING:
                given.setdefault(name, []).append(value)
        hosts = given.get("host", ())
        if len(hosts) > 1 or (is_new and not hosts):
            refuse("Host must be given once")
        options = given.get("connection")
        if options is None:
            self.keep_alive = is_new
        else:
            wanted = {option.strip(" \t").lower() for option in ",".join(options).split(",")}
            self.keep_alive = "close" not in wanted and (is_new or "keep-alive" in wanted)
        expected = given.get("expect")
        if expected and is_new:
            if [each.lower() for each in expected] != ["100-continue"]:
                raise ExpectationFailed(f"Unknown Expect: {', '.join(expected)}")
            self.expecting_continue = True
        codings, lengths = given.get("transfer-encoding"), given.get("content-length")
        if codings is not None:
            if lengths is not None:
                refuse("Transfer-Encoding and Content-Length exclude each other")
            if not is_new:
                refuse("HTTP/1.0 has no Transfer-Encoding")
            # lower() makes a k of the Kelvin sign, too.
            if [coding.lower() for coding in codings] != ["chunked"] or not codings[0].isascii():
                refuse("the only Transfer-Encoding known is chunked")
            return None
        if lengths is None:
            return 0
        if len(lengths) > 1 or LENGTH.fullmatch(lengths[0]) is None:
            refuse("Content-Length must be one number of at most 18 digits")
        return int(lengths[0])

    async def read(self) -> bytes | None:
        """The next bytes of the body, None at its end. Raises BadRequest, PayloadTooLarge."""
        if self.expecting_continue:
            self.expecting_continue = False
            # The time of a request runs on: see api/http/protocol.py.
            began = self.protocol._time
            await self._send(HTTP_CONTINUE)
            self.protocol._time = began
        if not self.request_bytes_left and self.request_body == "chunked":
            await self.begin_chunk()
        if self.request_bytes > self.request_max_size:
            self.keep_alive = False
            raise PayloadTooLarge("Request body exceeds the size limit")
        if not self.request_bytes_left:
            self.request_body = None
            return None
        buffer = self.recv_buffer
        if not buffer:
            await self._receive_more()
        data = bytes(buffer[: self.request_bytes_left])
        del buffer[: len(data)]
        self.request_bytes_left -= len(data)
        return data

    async def begin_chunk(self) -> None:
        """Read up to the data of the next chunk, or the last one with its trailers, which are dropped."""
        if self.amid_chunks and await self.read_line() != b"\r\n":
            self.refuse_body()
        match = CHUNK.fullmatch(await self.read_line())
        if match is None:
            self.refuse_body()
        size = int(match[1], 16)
        self.amid_chunks = True
        self.request_bytes_left = size
        self.request_bytes += size
        left = self.HEADER_MAX_SIZE
        while not size and (line := await self.read_line(left)) != b"\r\n":
            left -= len(line)
            if not line.endswith(b"\r\n") or FIELD.fullmatch(line[:-2]) is None:
                self.refuse_body()

    async def read_line(self, most: int = MAX_CHUNK_LINE) -> bytes:
        """The next line of a chunked body, of at most so many bytes, with its end."""
        buffer = self.recv_buffer
        searched = 0
        while (end := buffer.find(b"\n", searched, most)) < 0:
            searched = len(buffer)
            if searched >= most:
                self.refuse_body()
            await self._receive_more()
        line = bytes(buffer[: end + 1])
        del buffer[: end + 1]
        return line

    async def http1_response_header(self, data: bytes, end_stream: bool) -> None:
        """Send the head of an answer, with the body or, in its own piece of memory, the first slice of it."""
        answer = self.response
        if not isinstance(answer, Response) or not answer.body or self.head_only or self.expecting_continue:
            await super().http1_response_header(data, end_stream)
            return
        head = answer.head(self.keep_alive)
        if not data:
            self.response_func = None
            await self._send(head + answer.body)
            self.stage = Stage.IDLE
            return
        self.response_bytes_left = answer.length
        self.response_func = self.http1_response_normal
        await self._send(head)
        self.stage = Stage.RESPONSE
        await self.http1_response_normal(data, end_stream)

    async def begin_stream(self, answer: Response) -> None:
        """Send the head of an answer of unknown length: in chunks, or to HTTP/1.0 until the connection ends."""
        chunked = self.request.version == "1.1"
        self.keep_alive = self.keep_alive and chunked
        await self._send(answer.framed_head(self.keep_alive, "transfer-encoding: chunked\r\n" if chunked else ""))
        if self.head_only:
            self.response_func = None
            self.stage = Stage.IDLE
        else:
            self.response_func = self.http1_response_chunked if chunked else self.http1_response_unframed
            self.stage = Stage.RESPONSE

    async def http1_response_unframed(self, data: bytes, end_stream: bool) -> None:
        """Send a part of an answer whose end is the connection's."""
        if data:
            await self._send(data)
        if end_stream:
            self.response_func = None
            self.stage = Stage.IDLE

    def refuse_body(self) -> NoReturn:
        """Read nothing more of a body: where it ends is not known."""
        self.keep_alive = False
        self.request_body = None
        refuse("the body is not chunked as RFC 9112 says")


def read_field(line: bytes) -> tuple[str, str]:
    """The name, in small letters, and the value of a line of the head. Raises BadRequest."""
    match = FIELD.fullmatch(line)
    if match is None:
        refuse(MALFORMED)
    name = match[1].decode("ascii").lower()
    value = match[2].decode(errors="surrogateescape").strip(" \t")
    if name == "host" and HOST.fullmatch(value) is None:
        refuse("Host is no host")
    return name, value


# A client sends most of its fields again with each request.
remembered_field = lru_cache(REMEMBERED_FIELDS)(read_field)


def refuse(reason: str) -> NoReturn:
    raise BadRequest(reason)


def in_origin_form(method: str, target: str, headers: Header) -> str:
    """The path and query of a request-target that does not begin with them (RFC 9112, 3.2).

    The host that it names takes the place of Host. Raises BadRequest for what is no target.
    """
    if target == "*" and method == "OPTIONS":
        return target
    match = ABSOLUTE.fullmatch(target)
    if match is None or HOST.fullmatch(match[1]) is None or match[1].startswith(":"):
        refuse("the target of the request is no path")
    headers["host"] = match[1]
    rest = match[2]
    return rest if rest.startswith("/") else f"/{rest}"
