"""Call the functions that the role ledger_bridge may call. Nothing here asks the chain.

Rows are the database's: functions return them with its names. A transaction of several calls is `Ledger.together`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

from api.admin import checkpoints
from api.postgres import sessions
from bridge.halts import Halt, Later, Refusal

ROLE = "ledger_bridge"
NAME = "ledger bridge"  # its application_name
PATIENCE = 10  # seconds that another bridge's end is waited for
DURABLE = ("on", "remote_apply")  # values of synchronous_commit


@dataclass(frozen=True)
class Call:
    """A call of a published function."""

    function: str
    arguments: tuple[object, ...]


def connect(conninfo: str) -> "Ledger":
    """Log in as a member of ledger_bridge, or as an administrator who becomes one. Raises psycopg.Error, Refusal."""
    session = sessions.connect(conninfo, NAME)
    try:
        try:
            session.execute(sql.SQL("set role {}").format(sql.Identifier(ROLE)))
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue) as error:
            raise Refusal(f"this login is no member of {ROLE}: {error.diag.message_primary}") from None
        # What is committed is published next, where nobody can take it back.
        session.execute("set synchronous_commit = on")
        check_durable(session)
    except BaseException:
        session.close()
        raise
    return Ledger(session)


def check_durable(session: psycopg.Connection) -> None:
    """Check that the session writes what nothing loses. Raises Refusal, Halt."""
    ((commit, standby),) = session.execute(
        "select pg_catalog.current_setting('synchronous_commit'), pg_catalog.pg_is_in_recovery()"
    ).fetchall()
    if standby:
        raise Refusal("this database is a standby: the bridge needs the primary")
    if commit not in DURABLE:
        raise Halt("not_durable", f"synchronous_commit is {commit}")


class Ledger:
    """One session. A refusal of a function (class LG) raises Halt; the loss of the session raises Later."""

    def __init__(self, session: psycopg.Connection) -> None:
        self.session = session

    def rows(self, function: str, *arguments: object) -> list[Any]:
        """Return the rows of a function."""
        query = sql.SQL("select r.* from ledger.{}({}) as r").format(
            sql.Identifier(function), sql.SQL(", ").join([sql.Placeholder()] * len(arguments))
        )
        with answered(function), self.session.cursor(row_factory=namedtuple_row) as cursor:
            return [exact(row) for row in cursor.execute(query, arguments).fetchall()]

    def row(self, function: str, *arguments: object) -> Any:
        """Return the only row of a function."""
        (row,) = self.rows(function, *arguments)
        return row

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Carry out calls together or not at all."""
        with answered("commit"), self.session.transaction():
            yield

    def proof(self, group: int, participant: int, number: int) -> dict[str, Any]:
        """Return a leaf of a checkpoint with its siblings."""
        with answered("get_proof"):
            proof: dict[str, Any] = json.loads(checkpoints.proof(self.session, group, participant, number))
            return proof

    def together(self, calls: Iterable[Call]) -> list[Any]:
        """Carry out calls in one transaction, and return their rows."""
        with self.transaction():
            return [row for call in calls for row in self.rows(call.function, *call.arguments)]

    def lock(self, chain_id: int, sender: str) -> bool:
        """Lock the transactions of a sender on a chain for this session; False if another one keeps them."""
        # A bridge that has just ended may have them for a moment.
        self.session.execute("select pg_catalog.set_config('lock_timeout', %s, false)", [f"{PATIENCE}s"])
        query = "select pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended(%s, 0))"
        try:
            self.session.execute(query, [f"ledger bridge {chain_id} {sender.lower()}"])
        except psycopg.errors.LockNotAvailable:
            return False
        self.session.execute("select pg_catalog.set_config('lock_timeout', %s, false)", [f"{sessions.LOCK_TIMEOUT}s"])
        return True

    def vaults(self, chain_id: int) -> Sequence[Any]:
        """Return the groups that are linked to a vault of a chain, the oldest first."""
        return sorted((row for row in self.rows("list_vaults") if row.chain_id == chain_id), key=by_group)

    def close(self) -> None:
        self.session.close()


@contextmanager
def answered(function: str) -> Iterator[None]:
    """Turn errors of a call into Later, where another try may succeed, or into Halt, where the ledger refuses it."""
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if state.startswith("LG"):
            detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
            raise Halt("refused", f"{function}: {error.diag.message_primary}{detail}") from error
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
            raise Later(f"the database does not carry out {function}: {str(error).strip()}") from None
        raise


def by_group(row: Any) -> int:
    return int(row.group_id)


def exact(row: Any) -> Any:
    """Turn numerics of a row into whole numbers: amounts of 78 digits stay exact, and hexadecimal works."""
    values: Mapping[str, object] = row._asdict()
    changed = {name: int(value) for name, value in values.items() if isinstance(value, Decimal)}
    return row._replace(**changed) if changed else row
