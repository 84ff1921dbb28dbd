"""However many clients wait for the feed, one look serves them all, and each gets its new entries."""

import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql

from api.http import feed
from api.http.feed import HAS_MORE, Feed
from api.postgres.connection import ConnectionLost
from api.postgres.pools import Database as Connections
from api.postgres.pools import Trace
from tests.http.client import serving
from tests.support import Database, create, join, one

WAITING = 3000


@contextmanager
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def get(port: int, path: str) -> tuple[int, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if b"json" in head else body.decode()


def calls_of_read_feed(admin: psycopg.Connection) -> int:
    """How often the function was called, once the sessions have reported it."""
    idle = "select coalesce(sum(pg_stat_get_function_calls(oid)), 0)::integer from pg_proc where proname = 'read_feed'"
    return one(admin, idle)[0]


def test_thousands_of_waiting_readers_cost_as_much_as_one(database: Database) -> None:
    """Other requests are answered, the database gets one look an interval, and each reader gets the new entry."""
    with database.connect(database.admin) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("alter database {} set track_functions = 'pl'").format(name))
        group = create(admin, "ETH")
        join(admin, group, "alice")

    async def story(port: int, admin: psycopg.Connection) -> None:
        (_, page) = await get(port, "/api/entries")
        while not page["data"]:
            (_, page) = await get(port, "/api/entries")
        following = page["next"]
        began = time.monotonic()
        # Not all ask for the same page, nor wait at the same cursor.
        places = [following.replace("limit=1000", f"limit={1 + number % 3}") for number in range(WAITING)]
        waiting = [asyncio.create_task(get(port, f"{place}&wait=30")) for place in places]
        statuses = [(await get(port, "/api/groups"))[0] for _ in range(10)]
        for _ in range(600):
            text = (await get(port, "/metrics"))[1]
            if float(text.partition("\nledger_requests_in_flight ")[2].split()[0]) > WAITING:
                break
            await asyncio.sleep(0.1)
        statuses += [(await get(port, "/api/groups"))[0] for _ in range(50)]
        assert statuses == [200] * 60
        assert not any(task.done() for task in waiting)
        ids = await asyncio.to_thread(lambda: [join(admin, group, f"guest {number}") for number in range(3)])
        answers = await asyncio.gather(*waiting)
        seconds = time.monotonic() - began
        assert {status for status, _ in answers} == {200}
        for number, (_, body) in enumerate(answers):
            limit = 1 + number % 3
            got = [entry["to"] for entry in body["data"]]
            while len(got) < limit and len(got) < 3:  # the next page has the entries committed after the look
                (_, body) = await get(port, body["next"])
                got += [entry["to"] for entry in body["data"]]
            assert got[:limit] == ids[:limit]
        await asyncio.to_thread(report, admin)
        # Each page is read once while it queues and once after it: a few calls, and the looks.
        assert 3 < calls_of_read_feed(admin) < 10 * (seconds / feed.INTERVAL + 3) < WAITING

    def report(admin: psycopg.Connection) -> None:
        """End the sessions, which then report their calls."""
        sessions = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where application_name ~ 'feed'"
        admin.execute(sessions).fetchall()
        admin.execute("select pg_stat_clear_snapshot()")

    with many_files(), serving(database) as service, database.connect(database.admin) as admin:
        asyncio.run(story(service.port, admin))


# The looks, with a database that answers on command


class FakeDatabase:
    """A feed of entries, 1-1-1 and so on, that counts the pages that are read and the looks."""

    def __init__(self) -> None:
        self.end = 0
        self.pages: list[str | None] = []
        self.looks: list[int] = []
        self.error: Exception | None = None

    async def call_feed(self, statement: str, parameters: dict, traces: list[Trace] | None = None) -> list:
        await asyncio.sleep(0)
        if statement == HAS_MORE:
            places = parameters["cursors"][1:-1].split(",")
            self.looks.append(len(places))
            if self.error:
                raise self.error
            return [[b"%d" % number] for number, place in enumerate(places, 1) if self.place(place) < self.end]
        self.pages.append(parameters["after"])
        if self.error:
            raise self.error
        assert traces is not None
        traces[0].backend = 17
        end = min(self.end, self.place(parameters["after"]) + int(parameters["max_rows"]))
        entries = [*range(self.place(parameters["after"]) + 1, end + 1)]
        return [[json.dumps(entries).encode(), b"1-1-%d" % end if entries else None]]

    @staticmethod
    def place(cursor: str | None) -> int:
        return int(cursor.strip('"').rpartition("-")[2]) if cursor not in (None, "null") else 0


Story = Callable[[Feed, FakeDatabase], Awaitable[None]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Story], None]:
    monkeypatch.setattr(feed, "INTERVAL", 0.005)

    def run(story: Story) -> None:
        async def main() -> None:
            database = FakeDatabase()
            await story(Feed(cast("Connections", database)), database)

        asyncio.run(main())

    return run


async def follow(of: Feed, after: str | None, until: int, rows: int = 1000) -> list[int]:
    """Read entries up to a number, and wait for those that are not there yet."""
    entries: list[int] = []
    while until not in entries:
        trace = Trace()
        row = await of.read("a page", {"after": after, "max_rows": str(rows)}, trace)
        assert trace.backend == 17
        entries += json.loads(row[0] or b"")
        if row[1] is None:
            await of.wait_for_more(after, 60)
        else:
            after = row[1].decode()
    return entries


async def all_wait(of: Feed, number: int) -> None:
    await once(lambda: sum(map(len, of.waiting.values())) >= number)


async def once(condition: Callable[[], bool]) -> None:
    for _ in range(60_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("waited in vain")


def test_a_look_is_one_statement_for_any_number_of_readers(run: Callable[[Story], None]) -> None:
    async def story(of: Feed, database: FakeDatabase) -> None:
        readers = [asyncio.create_task(follow(of, None, 3)) for _ in range(2000)]
        await all_wait(of, 2000)
        database.looks.clear()
        await once(lambda: len(database.looks) >= 20)
        assert set(database.looks) == {1}
        asked = len(database.pages)
        assert asked <= 2
        database.end = 3
        assert await asyncio.gather(*readers) == [[1, 2, 3]] * 2000
        assert len(database.pages) <= asked + 2000 // feed.MAX_WOKEN + 2
        await asyncio.sleep(0.05)
        assert of.poller is None, "nobody waits, so nobody looks"

    run(story)


def test_each_reader_gets_each_entry_once_and_in_order(run: Callable[[Story], None]) -> None:
    async def story(of: Feed, database: FakeDatabase) -> None:
        database.end = 5
        starts = [None, *(f"1-1-{place}" for place in range(1, 6))]
        readers = [asyncio.create_task(follow(of, start, 40, rows)) for start in starts for rows in (1, 2, 7, 1000)]
        for end in range(6, 41):
            database.end = end
            await asyncio.sleep(0.003)
        for number, entries in enumerate(await asyncio.gather(*readers)):
            assert entries == [*range(number // 4 + 1, 41)]

    run(story)


def test_a_reader_without_new_entries_keeps_waiting(run: Callable[[Story], None]) -> None:
    async def story(of: Feed, database: FakeDatabase) -> None:
        behind, ahead = (asyncio.create_task(of.wait_for_more(cursor, 60)) for cursor in ("1-1-3", "1-1-9"))
        await all_wait(of, 2)
        database.end = 5
        assert await behind
        assert not ahead.done()
        database.end = 10
        assert await ahead

    run(story)


def test_many_cursors_are_looked_at_in_parts(run: Callable[[Story], None]) -> None:
    async def story(of: Feed, database: FakeDatabase) -> None:
        database.end = 1
        readers = [asyncio.create_task(of.wait_for_more(f"1-1-{number}", 60)) for number in range(1, 301)]
        await all_wait(of, 300)
        database.looks.clear()
        await once(lambda: len(database.looks) >= 6)
        assert sorted(database.looks[:3]) == [300 - 2 * feed.MAX_CURSORS, feed.MAX_CURSORS, feed.MAX_CURSORS]
        database.end = 301
        assert await asyncio.gather(*readers) == [True] * 300

    run(story)


def test_a_wait_ends_in_time_and_leaves_no_waiter(run: Callable[[Story], None]) -> None:
    async def story(of: Feed, database: FakeDatabase) -> None:
        assert not await of.wait_for_more(None, 0.02)
        gone = asyncio.create_task(of.wait_for_more(None, 60))
        await all_wait(of, 1)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert of.waiting == {}

    run(story)


@pytest.mark.parametrize("error", [ConnectionLost(), psycopg.OperationalError(), psycopg.errors.QueryCanceled()])
def test_waiting_readers_get_an_error_when_the_database_is_away(run: Callable[[Story], None], error: Exception) -> None:
    async def story(of: Feed, database: FakeDatabase) -> None:
        readers = [asyncio.create_task(follow(of, None, 1)) for _ in range(500)]
        await all_wait(of, 500)
        asked = len(database.pages)
        database.error = error
        outcomes = await asyncio.gather(*readers, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {type(error)}
        assert len(database.pages) <= asked + 500 // feed.MAX_WOKEN + 2

    run(story)


def test_a_stop_ends_all_waits_at_once(run: Callable[[Story], None]) -> None:
    async def story(of: Feed, database: FakeDatabase) -> None:
        readers = [asyncio.create_task(of.wait_for_more(None, 60)) for _ in range(500)]
        await all_wait(of, 500)
        of.stop()
        assert await asyncio.gather(*readers) == [False] * 500
        assert not await of.wait_for_more(None, 60)

    run(story)
