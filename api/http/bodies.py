"""Read and decode a request's body within bounds, without keeping other requests waiting.

A body is bounded before it is decoded: by its bytes and by the number of its values, each of which takes a hundred
bytes once it is decoded. Larger ones are decoded one at a time, and between a few lines of a list other requests are
served. So a worker neither stops nor grows for a body that its client may send.
"""

import asyncio
import ctypes
import re
from codecs import BOM_UTF8
from functools import cache
from json import JSONDecodeError
from time import perf_counter
from typing import cast

from sanic import Request
from sanic.http import Http

from api.http.protocol import Connection
from api.http.request import LoggedRequest
from api.http.values import DECODER, MAX_LINES, Lines, Members
from api.problems import Problem
from api.routes import MIB, Route

# From so many bytes on a body is decoded when no other is.
LARGE = 8 << 10
# From so many bytes on a call holds one of WEIGHTY_CALLS while its body is decoded and the database works on it; of
# those with more than 1 MiB there is one at a time.
WEIGHTY = 64 << 10
WEIGHTY_CALLS = 4
TURN_TIMEOUT = 10.0  # seconds that a body waits for its turn
SLICE = 0.002  # seconds after which the decoding of a list lets other requests go on

LINES_AT_A_TIME = 32  # between two looks at the clock
# Characters that a line may have: an ordinary one has 50, one with the most metadata, each character of them escaped,
# 100,000. To decode so many takes 40 milliseconds at the most.
MAX_LINE = 128 << 10

# What begins or separates values, and back-slashes, each of which is decoded on its own. Metadata has at most 4096.
MARKS = b",:[{\\"
OTHERS = bytes(set(range(256)) - set(MARKS))
MAX_MARKS = 16_384
MAX_MARKS_OF_LISTS = 524_288  # of 10,000 lines with metadata of twenty members each

LIBC = ctypes.CDLL(None)

WHITE_SPACE = r"[ \t\n\r]*"
SPACES = re.compile(WHITE_SPACE)
SEPARATOR = re.compile(rf"{WHITE_SPACE}(?:(,){WHITE_SPACE}|\])")


class Turns:
    """The right of one worker's requests to decode large bodies and to have calls made of them."""

    def __init__(self) -> None:
        self.decoding = asyncio.Lock()
        self.weighty = asyncio.Semaphore(WEIGHTY_CALLS)
        self.heaviest = asyncio.Semaphore(1)

    async def take(self, request: LoggedRequest, size: int) -> None:
        """Wait for the turn of a body of `size` bytes; `give_back` ends it. Raises Problem `busy`."""
        needed = [*([self.heaviest] if size > MIB else []), self.weighty]
        try:
            async with asyncio.timeout(TURN_TIMEOUT):
                for semaphore in needed:
                    await semaphore.acquire()
                    request.turns = (*request.turns, semaphore)
        except TimeoutError:
            raise Problem("busy", "the server is busy with other large requests; nothing was done") from None

    def give_back(self, request: LoggedRequest) -> None:
        if self.heaviest in request.turns:
            give_memory_back()
        for semaphore in request.turns:
            semaphore.release()
        request.turns = ()


def give_memory_back() -> None:
    """Have glibc give back to the system what lies free between blocks that are in use."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


async def drop_body(request: Request) -> None:
    """Read a body of at most 1 MiB that nobody needs. Raises Problem `body_too_large`."""
    stream = cast("Http", request.stream)
    while stream.request_body:
        limit_bytes(stream, MIB)
        await stream.read()


def limit_bytes(stream: Http, most: int) -> None:
    """Raises Problem `body_too_large`, for as many as the head said, or the chunks that came."""
    if (stream.request_bytes or 0) > most:
        raise Problem("body_too_large", f"a body may have {most} bytes")


async def read_body(route: Route, stream: Http) -> bytes | bytearray:
    """A request's body. Raises Problem `body_too_large`; the server then reads the rest and drops it."""
    connection = cast("Connection", stream.protocol)
    most = MAX_MARKS_OF_LISTS if route.lines else MAX_MARKS
    body: bytes | bytearray = b""
    counted = marks = 0
    while stream.request_body:
        limit_bytes(stream, route.body_limit)
        if chunk := await stream.read():
            if not body:
                body = chunk
            else:
                if isinstance(body, bytes):
                    body = bytearray(body)
                body += chunk
            connection.hold_body(len(body))
            if len(body) > most:
                marks += number_of_marks(body[counted:])
                counted = len(body)
                limit_values(marks, most)
    return body


def number_of_marks(text: bytes | bytearray) -> int:
    return len(text.translate(None, OTHERS))


def limit_values(marks: int, most: int) -> None:
    """Raises Problem `body_too_large`."""
    if marks > most:
        raise Problem("body_too_large", f"a body may have {most} values, names and back-slashes")


async def decode(route: Route, request: LoggedRequest, turns: Turns, body: bytes | bytearray) -> object:
    """The JSON value of a body; the lines of a list are spelled by then, as Lines.

    Raises Problem `invalid_json`, `body_too_large`, `busy`.
    """
    if len(body) > WEIGHTY:
        await turns.take(request, len(body))
    try:
        if len(body) <= LARGE:
            return await decode_value(route, body) if route.lines else DECODER.decode(body.decode("utf-8"))
        async with turns.decoding:
            await asyncio.sleep(0)
            return await decode_value(route, body)
    except UnicodeDecodeError:
        raise Problem("invalid_json", "the body is not UTF-8") from None
    except RecursionError:
        raise Problem("invalid_json", "the body is nested too deeply") from None
    except ValueError as error:
        reason = f"the body is not JSON: {error}" if body else "the body is empty"
        if body.startswith(BOM_UTF8):
            reason = "the body begins with a byte order mark: leave it out (RFC 8259)"
        raise Problem("invalid_json", reason) from None


async def decode_value(route: Route, body: bytes | bytearray) -> object:
    """Raises Problem, ValueError, RecursionError."""
    text = body.decode("utf-8")
    start = beginning(route.lines).match(text) if route.lines else None
    if route.lines is None or start is None:
        # A list that does not come first follows a member that no such body has.
        limit_values(number_of_marks(body) if route.lines else 0, MAX_MARKS)
        return DECODER.decode(text)
    lines, end = await decode_lines(text, start.end())
    if end is None:
        return Members({route.lines: lines})
    limit_values(number_of_marks(text[end:].encode()), MAX_MARKS)
    before = f'{{"{route.lines}":0'
    try:
        value = DECODER.decode(before + text[end:])
    except JSONDecodeError as error:
        raise JSONDecodeError(error.msg, text, error.pos - len(before) + end) from None
    value[route.lines] = lines
    return value


@cache
def beginning(name: str) -> re.Pattern[str]:
    """Return the pattern of an object's beginning whose first member is a list of that name."""
    return re.compile(rf'{WHITE_SPACE}{{{WHITE_SPACE}"{name}"{WHITE_SPACE}:{WHITE_SPACE}\[{WHITE_SPACE}')


async def decode_lines(text: str, at: int) -> tuple[Lines, int | None]:
    """The lines of a list whose first line, or end, is at a place of a text; and where the list ends.

    Of a list that is too long the rest is not decoded: its end is None. Raises JSONDecodeError, RecursionError.
    """
    lines = Lines()
    if text.startswith("]", at):
        return lines, at + 1
    until = perf_counter() + SLICE
    while len(lines) <= MAX_LINES:
        at, is_last = decode_some(text, at, lines)
        if is_last:
            return lines, at
        if perf_counter() > until:
            await asyncio.sleep(0)
            until = perf_counter() + SLICE
    return lines, None


def decode_some(text: str, at: int, lines: Lines) -> tuple[int, bool]:
    """Decode some lines more; where the next one begins or the list ends, and whether it does.

    Raises JSONDecodeError, RecursionError, Problem `body_too_large`.
    """
    # Only so much is decoded in one go, whatever one line holds.
    at = after_spaces(text, at)
    block = text[at : at + MAX_LINE]
    is_cut = at + len(block) < len(text)
    begin = 0
    for _ in range(LINES_AT_A_TIME):
        try:
            line, following, is_last = decode_line(block, begin)
        except JSONDecodeError as error:
            if not (is_cut and may_be_cut(error, block)):
                raise JSONDecodeError(error.msg, text, at + error.pos) from None
            if begin:
                break
            raise Problem("body_too_large", f"a line may have at most {MAX_LINE} characters") from None
        lines.add(line)
        begin = following
        if is_last:
            return at + begin, True
    return at + begin, False


def decode_line(text: str, at: int) -> tuple[object, int, bool]:
    """A line; where the next one begins or the list ends, and whether it does. Raises JSONDecodeError."""
    line, end = DECODER.raw_decode(text, at)
    if text.startswith(", {", end):
        return line, end + 2, False
    separator = SEPARATOR.match(text, end)
    if separator is None:
        raise JSONDecodeError("Expecting ',' delimiter", text, after_spaces(text, end))
    return line, separator.end(), separator[1] is None


def after_spaces(text: str, at: int) -> int:
    match = SPACES.match(text, at)
    return match.end() if match else at


def may_be_cut(error: JSONDecodeError, block: str) -> bool:
    """Whether text is no JSON because its end was cut off: a string does not end, or the error is where it ends."""
    return error.msg.startswith("Unterminated string") or error.pos > len(block) - len(r"\ud83e\udd84")
