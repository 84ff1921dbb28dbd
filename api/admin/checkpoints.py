"""Make checkpoints, get proofs and snapshots as the administrator, without the time-outs of a request.

PostgreSQL writes the JSON, as it does for the service: no amount becomes a Python number.
"""

from collections.abc import Iterator

import psycopg

from api.http.statement import json_of
from api.routes import CHECKPOINT, LEAF, PROOF


def make(connection: psycopg.Connection, group: int, key: str | None) -> str:
    """Make a checkpoint and return it as JSON. Raises psycopg.Error."""
    answer = json_of(CHECKPOINT, "c", amounts_as_strings=False)
    query = f"select {answer}::text from ledger.checkpoint(%s, %s) as c"
    ((made,),) = connection.execute(query.encode(), [group, key])
    return str(made)


def drop(connection: psycopg.Connection, group: int, keep: int) -> int:
    """Delete the leaves of a group's checkpoints but the newest ones; return of how many. Raises psycopg.Error."""
    ((dropped,),) = connection.execute("select ledger.drop_checkpoint_chunks(%s, %s)", [group, keep])
    return int(dropped)


def proof(connection: psycopg.Connection, group: int, participant: int, number: int | None) -> str:
    """Return a participant's proof as JSON, of the newest checkpoint without a number. Raises psycopg.Error."""
    answer = json_of(PROOF, "p", amounts_as_strings=False)
    query = f"select {answer}::text from ledger.get_proof(%s, %s, %s) as p"
    ((found,),) = connection.execute(query.encode(), [group, participant, number])
    return str(found)


def snapshot(connection: psycopg.Connection, group: int, number: int | None) -> Iterator[str]:
    """Yield the JSON of a checkpoint with all its leaves, a chunk of them at a time; of the newest without a number.

    The amounts in it are strings. Nothing is yielded before the first leaves are found. Raises psycopg.Error.
    """
    head = json_of(CHECKPOINT, "c", amounts_as_strings=True)
    query = f"select {head}::text, c.number from ledger.get_checkpoint(%s, %s) as c"
    ((checkpoint, number),) = connection.execute(query.encode(), [group, number])
    leaf = json_of(LEAF, "l", amounts_as_strings=True)
    query = f"""
        select (
          select string_agg({leaf}::text, E',\n' order by l.index)
          from ledger_internal.unpack_leaves(k) as l
        )
        from ledger_internal.find_checkpoint(%s, %s) as c
        cross join lateral ledger_internal.chunks_of(c) as k
        order by k.chunk
    """
    before = f'{{"checkpoint":{checkpoint},"leaves":[\n'
    for (leaves,) in connection.cursor().stream(query.encode(), [group, number]):
        yield before + leaves
        before = ",\n"
    yield "\n]}\n" if before == ",\n" else f"{before}]}}\n"
