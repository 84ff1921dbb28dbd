"""Make checkpoints and get proofs as the administrator, without the time-outs of a request.

PostgreSQL writes the JSON, as it does for the service: no amount becomes a Python number.
"""

import psycopg

from api.http.call import json_of
from api.routes import CHECKPOINT, PROOF


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
