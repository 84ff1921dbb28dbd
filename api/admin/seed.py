"""Load seeds: the demo groups of seeds/, or a large data set, through the ledger's functions only."""

from collections.abc import Callable, Iterator

import psycopg

from api.admin.progress import ignore
from api.postgres import sessions
from api.resources import RESOURCES

SEEDS = RESOURCES / "seeds"
DEPOSIT = 1_000_000
# Joins of one transaction. Each updates one shard of the group's total, and its row versions pile up until the commit:
# ten times as many take longer for each.
BATCH = 250


def seed(conninfo: str) -> None:
    """Run every file of seeds/. Raises psycopg.Error."""
    with sessions.connect(conninfo, "ledger seed") as connection:
        for file in sorted(SEEDS.glob("*.sql")):
            connection.execute(file.read_text().encode())


def seed_many(
    conninfo: str, groups: int, participants: int, advance: Callable[[int], object] = ignore
) -> Iterator[tuple[int, int]]:
    """Fill groups "Group 1" … with "Participant 1" … each; yield how many joined and how many were there, by group.

    Those that exist are left as they are, so a run that was interrupted is finished by the next. `advance` is called
    with how many more participants are there. Raises psycopg.Error.
    """
    with sessions.connect(conninfo, "ledger seed") as connection:
        existing = dict(pages(connection, "select name, id from ledger.list_groups(%s)", []))
        for number in range(1, groups + 1):
            name = f"Group {number}"
            group = existing.get(name)
            if group is None:
                (group,) = connection.execute("select id from ledger.create_group(%s)", [name]).fetchone() or ()
            query = "select username, id from ledger.list_participants(%s, %s)"
            present = {username for username, _ in pages(connection, query, [group])}
            missing = [username for i in range(1, participants + 1) if (username := f"Participant {i}") not in present]
            advance(participants - len(missing))
            for start in range(0, len(missing), BATCH):
                batch = missing[start : start + BATCH]
                connection.execute(
                    "select count(j.id) from unnest(%s::text[]) as u (name), ledger.join_group(%s, u.name, %s) as j",
                    [batch, group, DEPOSIT],
                )
                advance(len(batch))
            yield len(missing), participants - len(missing)


def pages(connection: psycopg.Connection, query: str, arguments: list[object]) -> Iterator[tuple[str, int]]:
    """Every row of a list function: (name, id), page by page."""
    after = 0
    while rows := connection.execute(query.encode(), [*arguments, after]).fetchall():
        yield from rows
        after = rows[-1][1]
