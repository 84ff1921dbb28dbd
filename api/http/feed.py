"""Read the feed of all groups: pages of it, and one poll for all clients that wait for its next entry.

No NOTIFY wakes the clients that wait: in a transfer's transaction it would take a lock of the whole server. So a worker
polls, once an interval and in one statement, which of the cursors that clients wait at have entries after them. Only
those clients read their page, and clients that ask for the same page share its call.
"""

import asyncio
from collections.abc import Mapping

import psycopg

from api.http.batching import quoted
from api.http.coalescing import Coalescer, resolve
from api.postgres.connection import ConnectionLost, Values
from api.postgres.pools import Database, Trace

INTERVAL = 0.25  # seconds between two polls; no connection is held during this time
MAX_WOKEN = 256  # clients that are woken in one turn of the event loop: they share a page
MAX_CURSORS = 128  # of one statement. Clients that have read everything wait at the same cursor.

HAS_MORE = """
select w.place
from unnest(%(cursors)s::text[]) with ordinality as w (cursor, place)
where exists (select from ledger.read_feed(after => w.cursor, max_rows => 1))
"""

Cursor = str | None  # None is the beginning
Page = tuple[str, Cursor, str | None]  # the statement, its cursor and its number of rows, if it takes them


class Feed:
    """Serves the feed to one worker's clients."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pages: Coalescer[Page, tuple[Values, int | None]] = Coalescer(self.read_pages, 1)
        self.waiting: dict[Cursor, set[asyncio.Future[bool]]] = {}
        self.poller: asyncio.Task[None] | None = None
        self.stopping = False

    async def read(self, statement: str, parameters: Mapping[str, str | None], trace: Trace) -> Values:
        """Return the row of a page. Raises as Database.call does."""
        row, trace.backend = await self.pages.ask((statement, parameters.get("after"), parameters.get("max_rows")))
        return row

    async def read_pages(self, pages: list[Page]) -> list[tuple[Values, int | None]]:
        ((statement, after, max_rows),) = pages
        trace = Trace()
        (row,) = await self.database.call_feed(statement, {"after": after, "max_rows": max_rows}, [trace])
        return [(row, trace.backend)]

    async def wait_for_more(self, after: Cursor, seconds: float) -> bool:
        """Wait for an entry after a cursor; return False when the time is over or the server stops.

        Returns True also when the database did not answer: reading the page then raises the reason.
        """
        if self.stopping:
            return False
        woken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        beside = self.waiting.setdefault(after, set())
        beside.add(woken)
        if self.poller is None:
            self.poller = asyncio.create_task(self.poll())
        try:
            async with asyncio.timeout(seconds):
                return await woken
        except TimeoutError:
            return False
        finally:
            beside.discard(woken)
            if not beside and self.waiting.get(after) is beside:
                del self.waiting[after]

    async def poll(self) -> None:
        try:
            while self.waiting:
                await asyncio.sleep(INTERVAL)
                cursors = [*self.waiting]
                for start in range(0, len(cursors), MAX_CURSORS):
                    for cursor in await self.find_continued(cursors[start : start + MAX_CURSORS]):
                        await resolve([*self.waiting.pop(cursor, ())], True, MAX_WOKEN)
        finally:
            self.poller = None

    async def find_continued(self, cursors: list[Cursor]) -> list[Cursor]:
        """Return the cursors with entries after them, or all cursors when the database does not answer."""
        listed = ",".join(["null" if cursor is None else quoted(cursor) for cursor in cursors])
        try:
            rows = await self.database.call_feed(HAS_MORE, {"cursors": f"{{{listed}}}"})
        except (psycopg.Error, ConnectionLost):
            return cursors
        return [cursors[int(place or 0) - 1] for (place,) in rows]

    def stop(self) -> None:
        """End the waits of all clients."""
        self.stopping = True
        for beside in self.waiting.values():
            for woken in beside:
                if not woken.done():
                    woken.set_result(False)
