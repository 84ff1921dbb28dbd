"""The feed of all groups: its pages, and one look at it for all clients that wait.

No NOTIFY wakes the clients that wait: in the money's transaction it would take a lock of the whole server. So a worker
looks, once an interval and in one statement, after which of the cursors that clients wait at the feed goes on. Only
those clients read their page, and clients that ask for the same page share its call.
"""

import asyncio
from collections.abc import Mapping

import psycopg

from api.http.batching import quoted
from api.http.coalescing import SharedAnswers, give
from api.postgres.connection import ConnectionLost, Values
from api.postgres.pools import Database, Trace

INTERVAL = 0.25  # seconds between two looks; no connection is held during this time
AT_ONCE = 256  # clients that are woken in one turn of the event loop: they share a page
MAX_CURSORS = 128  # of one statement. Clients that have read everything wait at one and the same.

GOES_ON = """
select w.place
from unnest(%(cursors)s::text[]) with ordinality as w (cursor, place)
where exists (select from ledger.read_feed(after => w.cursor, max_rows => 1))
"""

Cursor = str | None  # None is the beginning
Page = tuple[str, Cursor, str | None]  # the statement, its cursor and its number of rows


class Feed:
    """What one worker's clients read of the feed."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pages: SharedAnswers[Page, tuple[Values, int | None]] = SharedAnswers(self.read_pages, 1)
        self.waiting: dict[Cursor, set[asyncio.Future[bool]]] = {}
        self.looker: asyncio.Task[None] | None = None
        self.stopping = False

    async def read(self, statement: str, parameters: Mapping[str, str | None], trace: Trace) -> Values:
        """The row of a page. Raises as Database.call does."""
        row, trace.backend = await self.pages.ask((statement, parameters["after"], parameters["max_rows"]))
        return row

    async def read_pages(self, pages: list[Page]) -> list[tuple[Values, int | None]]:
        ((statement, after, max_rows),) = pages
        trace = Trace()
        (row,) = await self.database.call_feed(statement, {"after": after, "max_rows": max_rows}, [trace])
        return [(row, trace.backend)]

    async def goes_on(self, after: Cursor, seconds: float) -> bool:
        """Wait until there is something after a cursor; False when the time is over or the server stops.

        True also when the database could not be asked: reading the page then says why.
        """
        if self.stopping:
            return False
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        beside = self.waiting.setdefault(after, set())
        beside.add(told)
        if self.looker is None:
            self.looker = asyncio.create_task(self.look_again_and_again())
        try:
            async with asyncio.timeout(seconds):
                return await told
        except TimeoutError:
            return False
        finally:
            beside.discard(told)
            if not beside and self.waiting.get(after) is beside:
                del self.waiting[after]

    async def look_again_and_again(self) -> None:
        try:
            while self.waiting:
                await asyncio.sleep(INTERVAL)
                cursors = [*self.waiting]
                for start in range(0, len(cursors), MAX_CURSORS):
                    for cursor in await self.look(cursors[start : start + MAX_CURSORS]):
                        await give([*self.waiting.pop(cursor, ())], True, AT_ONCE)
        finally:
            self.looker = None

    async def look(self, cursors: list[Cursor]) -> list[Cursor]:
        """Those of the cursors after which the feed goes on, or all of them when the database cannot say."""
        listed = ",".join(["null" if cursor is None else quoted(cursor) for cursor in cursors])
        try:
            rows = await self.database.call_feed(GOES_ON, {"cursors": f"{{{listed}}}"})
        except (psycopg.Error, ConnectionLost):
            return cursors
        return [cursors[int(place or 0) - 1] for (place,) in rows]

    def stop(self) -> None:
        """Send the clients home that wait."""
        self.stopping = True
        for beside in self.waiting.values():
            for told in beside:
                if not told.done():
                    told.set_result(False)
