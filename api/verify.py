"""Verify the books range by range: one statement for all would keep its snapshot for minutes, and slow transfers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

RANGE_SECONDS = 1.0  # what a range may take; of one that takes longer the next has half the rows
FIRST_SIZE = 1_000  # rows
LARGEST_SIZE = 1_000_000  # rows

KEYS_OF_NEW_GROUPS = 0  # stands for a group where the keys are of requests that created one


@dataclass(frozen=True)
class Part:
    """What there is to verify of a group, in ranges of a key."""

    name: str
    before: int | str  # lies below every key
    bound: str  # (group, after, size) -> how many rows the next range has, and the last one's key
    verify: str  # (group, after, upto) -> faults


ENTRIES = Part(
    "entries",
    0,
    """
    select count(*), max(r.id)
    from (select id from ledger.entries where group_id = %s and id > %s order by id limit %s) as r
    """,
    "select * from ledger.verify_entries(%s, %s, %s)",
)
PARTICIPANTS = Part(
    "participants",
    0,
    """
    select count(*), max(r.id)
    from (select id from ledger.participants where group_id = %s and id > %s order by id limit %s) as r
    """,
    "select * from ledger.verify_participants(%s, %s, %s)",
)
KEYS = Part(
    "idempotency keys",
    "",
    """
    select count(*), max(r.key)
    from (select key from ledger.idempotency_keys where group_id = %s and key > %s order by key limit %s) as r
    """,
    "select * from ledger.verify_keys(%s, %s, %s)",
)


class VerifyError(Exception):
    """What keeps the books from being verified, in words for the person who asked for it."""


@dataclass(frozen=True)
class Fault:
    """A row of a verify function: ledger.fault."""

    group_id: int
    entry_id: int | None
    participant_id: int | None
    fault: str
    detail: str


@dataclass(frozen=True)
class Step:
    """What was looked at last: so many rows of a part of a group, the last one's key; and what is wrong with them."""

    group: int
    part: str
    rows: int
    last: int | str | None
    faults: list[Fault]


def verify(conninfo: str, group: int | None = None) -> Iterator[Step]:
    """Verify a group, or all of them and those removed, for half of the time; yield what was done, range by range.

    What is committed meanwhile may be looked at or not. Raises VerifyError, psycopg.Error.
    """
    with psycopg.connect(conninfo, autocommit=True, application_name="ledger verify") as connection:
        if connection.execute("select to_regprocedure('ledger.verify(bigint)')").fetchone() == (None,):
            raise VerifyError("the database is not migrated: there is no function ledger.verify. Run: ledger migrate")
        sizes: dict[str, int] = {}
        if group is None:
            yield from ranges(connection, KEYS_OF_NEW_GROUPS, KEYS, sizes)
        elif not connection.execute("select from ledger.groups where id = %s", [group]).fetchall():
            raise VerifyError(f"there is no group {group}, and there never was")
        for number in groups(connection) if group is None else [group]:
            for part in (ENTRIES, PARTICIPANTS, KEYS):
                yield from ranges(connection, number, part, sizes)
            found, _ = timed(connection, "select * from ledger.verify_total(%s)", [number])
            yield Step(number, "total", 1, None, found)


def groups(connection: psycopg.Connection) -> Iterator[int]:
    query = "select id from ledger.groups where id > %s order by id limit 1000"
    after = 0
    while page := connection.execute(query, [after]).fetchall():
        for (after,) in page:
            yield after


def ranges(connection: psycopg.Connection, group: int, part: Part, sizes: dict[str, int]) -> Iterator[Step]:
    """Verify a part of a group; sizes holds how many rows of each part a range takes, from group to group."""
    after = part.before
    while True:
        size = min(sizes.get(part.name, FIRST_SIZE), LARGEST_SIZE)
        rows, last = connection.execute(part.bound.encode(), [group, after, size]).fetchone() or (0, None)
        if rows == 0:
            return
        found, seconds = timed(connection, part.verify, [group, after, last])
        yield Step(group, part.name, rows, last, found)
        if seconds > RANGE_SECONDS:
            sizes[part.name] = max(size // 2, 1)
        elif seconds < RANGE_SECONDS / 2 and rows == size:
            sizes[part.name] = size * 2
        if rows < size:
            return
        after = last


def timed(connection: psycopg.Connection, query: str, arguments: list[object]) -> tuple[list[Fault], float]:
    """The faults that a statement finds, and the seconds that it takes; then a pause of as many.

    Between two snapshots the server clears away the versions of rows that transfers leave behind.
    """
    began = time.monotonic()
    found = [Fault(*row) for row in connection.execute(query.encode(), arguments).fetchall()]
    seconds = time.monotonic() - began
    time.sleep(seconds)
    return found, seconds
