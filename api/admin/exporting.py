"""Export a group as NDJSON: all participants, entries and checkpoints, in one snapshot of the database.

PostgreSQL writes the JSON, so that no amount becomes a Python number.
"""

from collections.abc import Callable, Iterator

import psycopg
from psycopg import IsolationLevel

from api.admin.progress import ignore
from api.http.statement import json_of
from api.routes import CHECKPOINT, ENTRY

FORMAT = 1
BATCH = 5_000  # rows

GROUP = """
    select
      json_build_object(
        'type', 'group', 'format', %(format)s::integer, 'id', g.id, 'name', g.name, 'created_at', g.created_at,
        'closed_at', g.closed_at, 'total', (
          select sum(s.total)::text from ledger.group_total_shards as s where s.group_id = g.id
        )
      )::text
    from ledger.groups as g
    where g.id = %(group)s
"""
PARTICIPANTS = """
    select
      json_build_object(
        'type', 'participant', 'id', p.id, 'username', p.username, 'amount', p.amount::text,
        'address', ledger_internal.format_address(p.address), 'joined_at', p.joined_at, 'exited_at', p.exited_at
      )::text
    from ledger.participants as p
    where p.group_id = %(group)s
    order by p.id
"""


COUNT = """
    select
      (select count(*) from ledger.participants as p where p.group_id = %(group)s)
      + (select count(*) from ledger.entries as e where e.group_id = %(group)s)
      + (select count(*) from ledger.checkpoints as c where c.group_id = %(group)s)
"""


class UnknownGroupError(Exception):
    """A group that never existed."""


def listed(kind: str, answer: str, source: str, order: str) -> str:
    """The query of a list, whose rows have the members of an answer of the service, and their type."""
    line = f"""'{{"type": "{kind}", ' || substr({answer}::text, 2)"""
    return f"select {line} from {source} as i where i.group_id = %(group)s order by i.{order}"


def export(
    connection: psycopg.Connection,
    group: int,
    expect: Callable[[int], object] = ignore,
    advance: Callable[[int], object] = ignore,
) -> Iterator[str]:
    """Yield the lines of a group's export. Raises UnknownGroupError before the first one, psycopg.Error.

    `expect` is called once with the number of lines, and `advance` with how many more were read.
    """
    connection.autocommit = False
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    given = {"group": group, "format": FORMAT}
    with connection.transaction():
        head = connection.execute(GROUP.encode(), given).fetchall()
        if not head:
            raise UnknownGroupError(f"there is no group {group}")
        yield f"{head[0][0]}\n"
        ((lines,),) = connection.execute(COUNT, given)
        expect(lines)
        entry = json_of(ENTRY, "i", amounts_as_strings=True)
        checkpoint = json_of(tuple(one for one in CHECKPOINT if not one.optional), "i", amounts_as_strings=True)
        counts = {}
        for name, query in (
            ("participants", PARTICIPANTS),
            ("entries", listed("entry", entry, "ledger.record", "id")),
            ("checkpoints", listed("checkpoint", checkpoint, "ledger.checkpoint_headers", "number")),
        ):
            counts[name] = 0
            with connection.cursor(name=f"export_{name}") as cursor:
                cursor.execute(query.encode(), given)
                while rows := cursor.fetchmany(BATCH):
                    counts[name] += len(rows)
                    yield from [f"{line}\n" for (line,) in rows]
                    advance(len(rows))
        members = ", ".join(f'"{name}": {count}' for name, count in counts.items())
        yield f'{{"type": "end", {members}}}\n'
