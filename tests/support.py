"""Helpers of the tests: their databases, refusals, waiting for a lock, and a check of the books."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest

# The invariants of the books, checked after every test; each row is a discrepancy.
BOOKS = """
with sides as (
  select group_id, to_id as participant_id, amount as change, to_amount as balance, id
  from ledger.entries
  where to_id is not null
  union all
  select group_id, from_id, -amount, from_amount, id
  from ledger.entries
  where from_id is not null
), balances as (
  select group_id, participant_id, sum(change) as balance,
    (array_agg(balance order by id desc))[1] as last_balance
  from sides group by group_id, participant_id
)
select 'balance' as discrepancy, p.group_id, p.id, p.amount, b.balance
from ledger.participants as p
left join balances as b on b.group_id = p.group_id and b.participant_id = p.id
where p.amount is distinct from b.balance or p.amount is distinct from b.last_balance
union all
select 'total', g.id, null, c.total, e.total
from ledger.groups as g
cross join lateral (select coalesce(sum(total), 0) from ledger.group_total_shards where group_id = g.id) as c (total)
cross join lateral (
  select coalesce(sum(case when kind in ('join', 'deposit') then amount when kind = 'exit' then -amount else 0 end), 0)
  from ledger.entries where group_id = g.id
) as e (total)
where c.total <> e.total
  or c.total <> (select coalesce(sum(amount), 0) from ledger.participants where group_id = g.id)
union all
select 'removed with participants', g.id, null, null, null
from ledger.groups as g
where g.closed_at is not null
  and exists (select from ledger.participants as p where p.group_id = g.id and p.exited_at is null)
"""


@dataclass(frozen=True)
class Database:
    """A database and how to log in to it; the role is the serving one unless another is named."""

    url: Callable[[str], str]
    service: str
    admin: str

    def connect(self, role: str | None = None, **options: object) -> psycopg.Connection:
        return psycopg.connect(self.url(role or self.service), **({"autocommit": True} | options))


def discrepancies(connection: psycopg.Connection) -> list[tuple]:
    """Return the discrepancies of the books."""
    return connection.execute(BOOKS).fetchall()


def one(connection: psycopg.Connection, query: str, arguments: Sequence[object] = ()) -> tuple:
    """The only row of a query."""
    (row,) = connection.execute(query, arguments).fetchall()
    return row


def refused(
    connection: psycopg.Connection, sqlstate: str, query: str, arguments: Sequence[object] = ()
) -> psycopg.errors.Diagnostic:
    """Run a statement that must be refused with that SQLSTATE, in a savepoint where a transaction is open."""
    with pytest.raises(psycopg.Error) as raised, connection.transaction():
        connection.execute(query, arguments)
    assert raised.value.sqlstate == sqlstate, raised.value
    diag = raised.value.diag
    if sqlstate.startswith("LG"):
        assert diag.message_primary
        assert not diag.message_primary.endswith(".")
        assert diag.message_hint
        assert diag.message_hint.endswith(".")
        assert diag.column_name == fields(diag)[0]
    return diag


def fields(diag: psycopg.errors.Diagnostic) -> list[str]:
    """The fields that a refusal's DETAIL blames, one a line."""
    return [line.partition(": ")[0] for line in (diag.message_detail or "").split("\n")]


def statement(function: str, arguments: Sequence[object]) -> str:
    """The call of a published function, as clients spell it, or of one that is named with its schema."""
    name = function if "." in function else f"ledger.{function}"
    return f"select * from {name}({', '.join(['%s'] * len(arguments))})"


def call(connection: psycopg.Connection, function: str, *arguments: object) -> list[tuple]:
    """The rows that a published function returns, but for `replayed`, which is false without an idempotency key."""
    cursor = connection.execute(statement(function, arguments), arguments)
    names = [column.name for column in cursor.description or []]
    rows = cursor.fetchall()
    if names[-1] != "replayed":
        return rows
    return [row[:-1] for row in rows]


def create(connection: psycopg.Connection, name: str) -> int:
    """The id of a new group."""
    return one(connection, "select id from ledger.create_group(%s)", [name])[0]


def join(connection: psycopg.Connection, group: int, username: str, amount: int = 100) -> int:
    """The id of a new participant."""
    return one(connection, "select id from ledger.join_group(%s, %s, %s)", [group, username, amount])[0]


def create_large(connection: psycopg.Connection) -> int:
    """The id of a new group whose page of 1,000 participants has a megabyte."""
    group = create(connection, "ETH")
    names = "lpad(n::text, 4, '0') || repeat('€', 251)"
    query = (
        f"select count(j) from generate_series(0, 999) as n cross join lateral ledger.join_group(%s, {names}, 100) as j"
    )
    assert one(connection, query, [group]) == (1000,)
    return group


def create_crowd(connection: psycopg.Connection, size: int, padding: str) -> int:
    """The id of a new group of so many participants, p1 and so on with a padding, whose joins are of one time."""
    group = create(connection, f"Crowd of {size}")
    connection.execute(
        """
        with added as (
          insert into ledger.participants (group_id, username, amount, joined_at, moved_at)
          select %(group)s, 'p' || n || %(padding)s, 0, now(), now()
          from generate_series(1, %(size)s) as n
          order by n
          returning group_id, id
        )
        insert into ledger.entries (group_id, kind, to_id, amount, to_amount, created_at)
        select group_id, 'join', id, 0, 0, now()
        from added
        order by id
        """,
        {"group": group, "size": size, "padding": padding},
    )
    return group


def transfer(connection: psycopg.Connection, group: int, sender: int, recipient: int, amount: int) -> int:
    """The id of the entry that a transfer wrote."""
    query = "select entry_id from ledger.transfer(%s, %s, %s, %s)"
    return one(connection, query, [group, sender, recipient, amount])[0]


def balance(connection: psycopg.Connection, group: int, participant: int) -> int:
    """Return the balance of a present participant."""
    return one(connection, "select amount from ledger.get_participant(%s, %s)", [group, participant])[0]


@contextmanager
def in_background(call: Callable[[], object]) -> Iterator[list[object]]:
    """Run a call in a thread; after the block the list holds its result or exception."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except psycopg.Error as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        thread.join(30)
        assert not thread.is_alive(), "the call in the background did not return"


def until(condition: Callable[[], object], what: str = "the condition", seconds: float = 60) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.005)


def wait_until_blocked(observer: psycopg.Connection, connection: psycopg.Connection) -> None:
    """Return once the connection's session waits for a lock."""
    blocked = "select cardinality(pg_blocking_pids(%s)) > 0"
    pid = connection.info.backend_pid
    until(lambda: one(observer, blocked, [pid])[0], f"session {pid} to wait for a lock", 30)
