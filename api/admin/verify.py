"""Verify the books range by range: one statement for all would keep its snapshot for minutes, and slow transfers."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg

from api.admin import schema
from api.admin.kept import Kept
from api.admin.progress import ignore
from api.postgres import sessions

RANGE_SECONDS = 1.0  # that a range may take; after a longer one, the next has half the rows
FIRST_SIZE = 1_000  # rows
LARGEST_SIZE = 1_000_000  # rows

LOWEST = -(2**63)  # ids that are no positive number are looked at as well

NEW_GROUPS = 0  # in place of a group: for the idempotency keys of requests that created one


@dataclass(frozen=True)
class Part:
    """A part of a group, or of all groups, that is verified in ranges of a key."""

    name: str
    before: int | str  # lies below every key, or is the lowest
    bound: str  # ([group,] after, size) -> how many rows the next range has, and the last one's key
    verify: str  # ([group,] after, upto) -> discrepancies
    open_end: bool = False  # whether the last range has what lies above the last row as well
    first_size: int | None = None  # rows of the first range, where it is not FIRST_SIZE


GROUPS = Part(
    "groups",
    LOWEST,
    "select count(*), max(r.id) from (select id from ledger.groups where id > %s order by id limit %s) as r",
    "select * from ledger_internal.verify_groups(%s, %s)",
    open_end=True,
)
ENTRIES = Part(
    "entries",
    LOWEST,
    """
    select count(*), max(r.id)
    from (select id from ledger.entries where group_id = %s and id > %s order by id limit %s) as r
    """,
    "select * from ledger_internal.verify_entries(%s, %s, %s)",
)
PARTICIPANTS = Part(
    "participants",
    LOWEST,
    """
    select count(*), max(r.id)
    from (select id from ledger.participants where group_id = %s and id > %s order by id limit %s) as r
    """,
    "select * from ledger_internal.verify_participants(%s, %s, %s)",
)
CHECKPOINTS = Part(
    "checkpoints",
    LOWEST,
    """
    select count(*), max(r.number)
    from (select number from ledger.checkpoints where group_id = %s and number > %s order by number limit %s) as r
    """,
    "select * from ledger_internal.verify_checkpoints(%s, %s, %s)",
    first_size=1,  # which may have as many leaves as the group has participants
)
IDEMPOTENCY_KEYS = Part(
    "idempotency keys",
    "",
    """
    select count(*), max(r.key)
    from (select key from ledger.idempotency_keys where group_id = %s and key > %s order by key limit %s) as r
    """,
    "select * from ledger_internal.verify_keys(%s, %s, %s)",
)


OF_GROUP = (ENTRIES, PARTICIPANTS, CHECKPOINTS, IDEMPOTENCY_KEYS)  # each with the name of its table
PARTS = frozenset(part.name for part in OF_GROUP)


class VerifyError(Exception):
    """Why the books cannot be verified, in words for the person who gave the command."""


@dataclass(frozen=True)
class Discrepancy:
    """A row of a verify function: ledger.discrepancy."""

    group_id: int | None
    entry_id: int | None
    participant_id: int | None
    kind: str
    detail: str


@dataclass(frozen=True)
class Step:
    """One range that was verified: how many rows of which part of which group, the last one's key, the discrepancies.

    The group is None for what belongs to no group or to all; `note` says what could not be verified, and why.
    """

    group: int | None
    part: str
    rows: int
    last: int | str | None
    discrepancies: list[Discrepancy]
    note: str | None = None


def verify(
    conninfo: str,
    group: int | None = None,
    against: Sequence[Kept] = (),
    expect: Callable[[int], object] = ignore,
) -> Iterator[Step]:
    """Verify a group, or all groups and the rows of none; yield each finished range.

    Before that, compare checkpoints with what was kept of them elsewhere. `expect` is called once with about how many
    rows there are.

    It works half of the time and pauses for the other half. Rows that are committed during this time may be left out.
    Raises VerifyError, psycopg.Error.
    """
    with sessions.connect(conninfo, "ledger verify") as connection:
        if connection.execute("select to_regprocedure('ledger_internal.verify_schema()')").fetchone() == (None,):
            raise VerifyError("the database is not migrated to this release. Run: ledger migrate")
        expect(expected_rows(connection, group))
        yield from compare_kept(connection, group, against)
        sizes: dict[str, int] = {}
        if group is None:
            yield compare_schema(connection)
            found, _ = timed(connection, "select * from ledger_internal.verify_ledger()", [])
            yield Step(None, "feeds and API keys", 1, None, found)
            yield from ranges(connection, None, GROUPS, sizes)
            yield from compare_ids(connection)
            yield from ranges(connection, NEW_GROUPS, IDEMPOTENCY_KEYS, sizes)
        elif not connection.execute("select from ledger.groups where id = %s", [group]).fetchall():
            raise VerifyError(f"there is no group {group}, and there never was")
        else:
            found, _ = timed(connection, GROUPS.verify, [group - 1, group])
            yield Step(group, GROUPS.name, 1, None, found)
        for number in groups(connection) if group is None else [group]:
            for part in OF_GROUP:
                yield from ranges(connection, number, part, sizes)
            found, _ = timed(connection, "select * from ledger_internal.verify_total(%s)", [number])
            yield Step(number, "total", 1, None, found)


def expected_rows(connection: psycopg.Connection, group: int | None) -> int:
    """Return how many rows PostgreSQL expects to be there: to count them would take one long snapshot."""
    of_group = "" if group is None else f" where group_id = {group:d}"
    rows = 0
    for part in OF_GROUP:
        query = f"explain (format json) select from ledger.{part.name.replace(' ', '_')}{of_group}"
        (plans,) = connection.execute(query.encode()).fetchone() or ([],)
        rows += plans[0]["Plan"]["Plan Rows"]
    return rows


def compare_kept(connection: psycopg.Connection, group: int | None, against: Sequence[Kept]) -> Iterator[Step]:
    """Compare checkpoints with what was kept of them elsewhere, and with the record."""
    for kept in against:
        if group not in (None, kept.group):
            raise VerifyError(f"a checkpoint of group {kept.group} was kept too: verify all groups, or keep it apart")
        query = "select * from ledger_internal.verify_kept(%s, %s, %s, %s)"
        found, _ = timed(connection, query, [kept.group, kept.number, kept.header, kept.seal])
        yield Step(kept.group, "kept checkpoints", 1, kept.number, found)


def groups(connection: psycopg.Connection) -> Iterator[int]:
    query = "select distinct id from ledger.groups where id > %s order by id limit 1000"
    after = LOWEST
    while page := connection.execute(query, [after]).fetchall():
        for (after,) in page:
            yield after


def compare_schema(connection: psycopg.Connection) -> Step:
    """Compare every object of the schema with this release's; of another, check only which rules are in force."""
    words, note = schema.differences(connection)
    if note is None:
        return Step(None, "schema", 1, None, [Discrepancy(None, None, None, "schema", detail) for detail in words])
    found, _ = timed(connection, "select * from ledger_internal.verify_schema()", [])
    return Step(None, "schema", 1, None, found, f"the schema was not compared with this release's: {note}")


def compare_ids(connection: psycopg.Connection) -> Iterator[Step]:
    """Look for ids that two groups share, in ranges of so many ids: each is looked up in every group."""
    query = """
    select greatest(e.last_value, p.last_value)
    from ledger.entries_id_seq as e
    cross join ledger.participants_id_seq as p
    """
    (given,) = connection.execute(query).fetchone() or (0,)
    after, size = LOWEST, LARGEST_SIZE
    upto: int | None = min(size, given)
    while True:
        found, seconds = timed(connection, "select * from ledger_internal.verify_ids(%s, %s)", [after, upto])
        yield Step(None, "ids", 0, upto, found)
        if upto is None:
            return
        # Not less when it is slow: a range costs a look at each group, however few ids it has.
        if seconds < RANGE_SECONDS / 2:
            size *= 2
        # Above the last one that was given there should be none.
        after, upto = upto, min(upto + size, given) if upto < given else None


def ranges(connection: psycopg.Connection, group: int | None, part: Part, sizes: dict[str, int]) -> Iterator[Step]:
    """Verify a part of a group; sizes holds how many rows of each part a range takes, from group to group."""
    of = [] if group is None else [group]
    after = part.before
    while True:
        size = min(sizes.get(part.name, part.first_size or FIRST_SIZE), LARGEST_SIZE)
        rows, last = connection.execute(part.bound.encode(), [*of, after, size]).fetchone() or (0, None)
        if rows == 0 and not part.open_end:
            return
        at_end = rows < size
        found, seconds = timed(connection, part.verify, [*of, after, None if at_end and part.open_end else last])
        yield Step(group, part.name, rows, last, found)
        if seconds > RANGE_SECONDS:
            sizes[part.name] = max(size // 2, 1)
        elif seconds < RANGE_SECONDS / 2 and rows == size:
            sizes[part.name] = size * 2
        if at_end:
            return
        after = last


def timed(connection: psycopg.Connection, query: str, arguments: Sequence[object]) -> tuple[list[Discrepancy], float]:
    """Return the discrepancies that a statement finds, and the seconds that it takes, after a pause of as many.

    Between two snapshots the server clears away the versions of rows that transfers leave behind.
    """
    began = time.monotonic()
    found = [Discrepancy(*row) for row in connection.execute(query.encode(), arguments).fetchall()]
    seconds = time.monotonic() - began
    time.sleep(seconds)
    return found, seconds
