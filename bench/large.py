"""The large ledger: one group of 1,000,000 participants, 10,000,000 entries and as many idempotency keys."""

import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench import checkpoints, explorer
from bench.ledgers import Ledger, served
from bench.load import BenchError, Group, lines, request, send, spread, transfers
from bench.measures import FAST, PAGE, Figures, Target, participants_pages, totals

LINES = 10_000  # of the multi-party transfers that fill it
KEYS = 250_000  # that one statement stores
WARM_UP = 60  # seconds


@dataclass(frozen=True)
class Stored:
    """The size of the stored ledger."""

    participants: int = 1_000_000
    entries: int = 10_000_000
    keys: int = 10_000_000
    fresh: int = 10_000  # participants of each of 10 groups of the fresh ledger


def measure_large(stored: Stored, folder: Path, rounds: int, seconds: int, bare: bool = False) -> list[Figures]:
    """Measure a large ledger and a fresh one in turn; the figures of each round. Raises BenchError."""
    with ExitStack() as stack:
        fresh = stack.enter_context(served(folder / "fresh", bare))
        groups = fresh.fill(10, stored.fresh)
        large = stack.enter_context(served(folder / "large", bare))
        (group,) = large.fill(1, stored.participants)
        fill_with_transfers(large, group, stored.entries - stored.participants)
        fill_with_keys(large, group, stored.keys)
        with large.connect() as connection:
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")
        sizes = {f"large ledger: {name} [bytes]": figure for name, figure in bytes_an_entry(large).items()}
        send(large.server, transfers(spread([group]), 20_000), 64, WARM_UP)
        return [{**compare(large, [group], fresh, groups, seconds), **sizes} for _ in range(rounds)]


def ends_of_history(groups: list[Group]) -> list[str]:
    """The newest entries of a group, and the oldest."""
    return [
        f"/api/groups/{group.id}/entries?limit={PAGE}&order={order}" for group in groups for order in ("desc", "asc")
    ]


def fill_with_transfers(ledger: Ledger, group: Group, entries: int) -> None:
    """Two sessions, each between the participants of its half, so that neither waits for the other."""
    middle = (group.first + group.last) // 2
    halves = [Group(group.id, group.first, middle), Group(group.id, middle + 1, group.last)]
    errors: list[psycopg.Error] = []

    def fill(half: Group) -> None:
        try:
            with ledger.connect() as connection:
                for _ in range(entries // LINES // len(halves)):
                    call = "select from ledger.transfer_all(%s, %s::jsonb)"
                    connection.execute(call, [group.id, lines(half, LINES)])
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=fill, args=[half]) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise BenchError(f"transfers were refused: {errors[0]}")


def fill_with_keys(ledger: Ledger, group: Group, keys: int) -> None:
    """Rows as a transfer with a key leaves them, without the transfers."""
    with ledger.connect() as connection:
        for _ in range(keys // KEYS):
            connection.execute(
                """
                insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, entry_id)
                select %(group)s, gen_random_uuid()::text, 'transfer', sha256(n::text::bytea), t.entry_id
                from generate_series(1, %(keys)s) as n
                cross join ledger.transfer(%(group)s, %(first)s, %(last)s, 1) as t
                """,
                {"group": group.id, "keys": KEYS, "first": group.first, "last": group.last},
            )


def bytes_an_entry(ledger: Ledger) -> Figures:
    with ledger.connect() as connection:
        (entries,) = connection.execute("select count(*) from ledger.entries").fetchone() or (0,)
        query = """
            select c.relname, pg_relation_size(c.oid) from pg_index as i
            join pg_class as c on c.oid in (i.indrelid, i.indexrelid)
            where i.indrelid = 'ledger.entries'::regclass
        """
        return {f"{name} of an entry": size / entries for name, size in connection.execute(query).fetchall()}


def compare(large: Ledger, group: list[Group], fresh: Ledger, groups: list[Group], seconds: int) -> Figures:
    def rate(ledger: Ledger, groups: list[Group], keyed: bool = False) -> float:
        requests = transfers(spread(groups), FAST * seconds if keyed else 20_000, keyed)
        return send(ledger.server, requests, 64, seconds, once=keyed).rate

    figures = {
        LARGE: rate(large, group),
        FRESH: rate(fresh, groups),
        f"{LARGE}, with keys": rate(large, group, keyed=True),
    }
    for text, paths in PATHS.items():
        for of, ledger, its in (("large", large, group), ("fresh", fresh, groups)):
            requests = [request("GET", path) for path in paths(its)]
            figures[f"{of} ledger: {text} [ms]"] = send(ledger.server, requests, 1, 1).p50
    taken = checkpoints.measure_of(large, group[0], seconds)
    figures |= {f"large ledger: {name}": figure for name, figure in taken.items()}
    return figures | explorer.measure_first_page(large, group[0])


LARGE = "large ledger: HTTP transfer, 64 connections"
FRESH = "fresh ledger: HTTP transfer, 64 connections"
PATHS = {
    "group total": totals,
    f"page of {PAGE} participants": participants_pages,
    f"page of {PAGE} entries": ends_of_history,
}
TARGETS = (
    Target("with keys / without, 10,000,000 keys stored", f"{LARGE}, with keys", LARGE, 0.85),
    Target("1 group of 1,000,000, 10,000,000 entries / 10 of 10,000, fresh", LARGE, FRESH, 0.85),
    *(
        Target(
            f"the same: time of a {text}", f"large ledger: {text} [ms]", f"fresh ledger: {text} [ms]", 1.5, at_most=True
        )
        for text in PATHS
    ),
    Target(
        "1 group of 1,000,000: beside repeated checkpoints / without",
        f"large ledger: {checkpoints.BESIDE}",
        f"large ledger: {checkpoints.ALONE}",
        0.8,
    ),
)
