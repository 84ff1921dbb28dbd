"""Answer with a whole list, as CSV (RFC 4180) or as NDJSON: a page at a time, as its client reads it.

Each page is a call of its own that goes on after the last row of the page before it, so an answer holds neither a
connection nor a snapshot while its client reads, and of its rows one page. Each row is in the answer once, in order;
rows that are written during this time may be in it. An answer that cannot be completed is cut off: its last chunk is
missing.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from sanic import Request

from api.http.call import cursor_of
from api.postgres.connection import Values
from api.problems import RETRY_AFTER, Problem

ATTEMPTS = 10  # to read a page while the database is busy or away
PAUSE = 1.0  # seconds between two of them

Parameters = Mapping[str, str | None]
ReadPage = Callable[[Parameters], Awaitable[Values]]


def is_whole(request: Request) -> bool:
    """Return whether a request asks for the whole list: for no number of rows."""
    return "limit" not in request.get_args(keep_blank_values=True)


class Exports:
    """Reads the pages of one worker's answers that have many."""

    def __init__(self) -> None:
        # One page at a time, in the order in which they are asked for: the other connection is left to other reads.
        self.turn = asyncio.Semaphore(1)

    async def pages(self, read: ReadPage, parameters: Parameters, first: bytes, last: bytes) -> AsyncIterator[bytes]:
        """Yield a first page that was read, and read those after its last row. Raises what reading raises."""
        yield first
        goes_on: bytes | None = last
        while goes_on is not None:
            parameters = {**parameters, cursor_of(parameters): goes_on.decode()}
            page, goes_on = await self.read(read, parameters)
            yield page or b""

    async def read(self, read: ReadPage, parameters: Parameters) -> Values:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.turn:
                    return await read(parameters)
            except Problem as problem:
                if problem.code not in RETRY_AFTER or attempt == ATTEMPTS:
                    raise
            await asyncio.sleep(PAUSE)
        raise AssertionError("the last attempt returns or raises")
