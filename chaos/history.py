"""Compare the answers that clients got with the record."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import psycopg

# More than anybody has: a transfer of it must always be refused.
TOO_MUCH = 2**200


@dataclass(frozen=True)
class Movement:
    """An entry as its client knows it: the request's values, and the id in the answer."""

    entry: int
    group: int
    kind: str
    sender: int | None
    recipient: int | None
    amount: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as its client knows it. Its header commits to all of it."""

    group: int
    number: int
    header: str


@dataclass
class History:
    """Every answer. `wrong` holds those that should never have been given."""

    acknowledged: list[Movement] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    refused: int = 0
    retried: int = 0
    reads: int = 0
    internal_errors: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """The ids of entries that are not as they should be."""

    lost: list[int]  # acknowledged, and not in the record, or not as it was acknowledged
    doubled: list[int]  # in the record, and acknowledged to nobody, or to two
    refused: list[int]  # in the record, and refused


def judge(acknowledged: Iterable[Movement], record: Iterable[Movement]) -> Verdict:
    """Compare the acknowledged movements with the record, once every request has been answered."""
    answered = list(acknowledged)
    written = {movement.entry: movement for movement in record}
    times = Counter(movement.entry for movement in answered)
    refused = [entry for entry, movement in written.items() if movement.amount == TOO_MUCH]
    return Verdict(
        [movement.entry for movement in answered if written.get(movement.entry) != movement],
        [entry for entry in written if times[entry] != 1 and entry not in refused],
        refused,
    )


def read_record(connection: psycopg.Connection) -> list[Movement]:
    rows = connection.execute("select id, group_id, kind, from_id, to_id, amount from ledger.entries")
    return [
        Movement(entry, group, kind, sender, recipient, int(amount))
        for entry, group, kind, sender, recipient, amount in rows
    ]


def contradictions(acknowledged: Iterable[Checkpoint], made: Iterable[Checkpoint]) -> list[str]:
    """Compare the checkpoints that were acknowledged with those that were made: each once, as it was acknowledged."""
    times, written = Counter(acknowledged), set(made)
    return [
        *(f"{each} was acknowledged, and is not there" for each in times if each not in written),
        *(f"{each} was made, and acknowledged {times[each]} times" for each in written if times[each] != 1),
    ]


def read_checkpoints(connection: psycopg.Connection) -> list[Checkpoint]:
    rows = connection.execute("select group_id, number, header from ledger.checkpoint_headers")
    return [Checkpoint(*row) for row in rows]
