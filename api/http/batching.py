"""Make one call for a batch of requests: transfers, and reads of a participant.

While one call is in flight, requests queue; the next call takes them all, in the order in which they came. A request
that finds no call in flight goes at once, and no request waits for a timer. One commit then serves many transfers, and
transfers of one popular participant do not wait for each other's commits.

The batch function handles the requests that need not wait for a lock. The others get a call of their own on another
connection: a refusal, a repeated request, a row that stays locked, and a request with a query, such as a read of the
past. So no request fails another, or delays it beyond the call that both were in.

Two workers' batches would find the rows of one popular participant locked by each other: most of its transfers ended in
calls of their own, at an eighth of the rate. So a worker that has found a row locked takes turns from then on: a call
with several transfers of one participant first takes an advisory lock of that participant until its commit. The next
batch is made up when no other has this lock: what waits for a commit waits in the queue, and shares the next one.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from api.http.statement import json_of
from api.http.values import sql_type
from api.postgres.connection import ConnectionLost, Values
from api.postgres.pools import TRANSIENT, Database, Trace
from api.problems import code_of
from api.routes import Route
from api.telemetry.metrics import BATCH_SIZE, Metrics

MAX_BATCH = 128  # requests of one call: with more, the worker waits for a long call and then the database for it
MAX_QUEUED = 4096  # requests; one more is refused
MAX_LOCKED = 3  # batches that find a transfer's row locked before the transfer waits for it in its own call
POPULAR = 3  # transfers of one participant in a batch, from which on it takes turns with other batches
WARY = 60.0  # seconds for which batches take turns after there was a reason for it
TURNS = 4000  # the class of the advisory locks, whose second number is a participant's

TAKE_TURNS = f"""
    select count(*) >= 0 as taken
    from unnest(%(turns)s::integer[]) as t (number)
    cross join lateral pg_catalog.pg_advisory_xact_lock({TURNS}, t.number)
"""


@dataclass(eq=False, slots=True)
class PendingRequest:
    """A request that waits for its answer; the answer None means that it needs a call of its own."""

    parameters: Mapping[str, str | None]
    strings: bool
    trace: Trace
    answer: asyncio.Future[Values | None]
    locked: int = 0


class CallBatches:
    """The batches of one route in one worker."""

    def __init__(self, route: Route, database: Database, metrics: Metrics) -> None:
        self.route = route
        self.database = database
        self.metrics = metrics
        self.unbatchable = [argument.parameter for argument in route.query]  # parameters that a batch cannot have
        self.calls = 0
        self.statement, self.statement_in_turn = statement(route), statement(route, in_turn=True)
        self.wary_until = 0.0
        self.turns: list[str] = []  # that the latest batch took
        self.waiting: deque[PendingRequest] = deque()
        self.caller: asyncio.Task[None] | None = None

    async def call(self, parameters: Mapping[str, str | None], strings: bool, trace: Trace) -> Values | None:
        """Make a call in a batch; return the row of its answer, or None where the request needs a call of its own.

        Raises psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, ConnectionLost.
        """
        for name in self.unbatchable:
            if parameters[name] is not None:
                return None
        if len(self.waiting) >= MAX_QUEUED:
            raise TooManyRequests(f"{MAX_QUEUED} requests are waiting")
        request = PendingRequest(parameters, strings, trace, asyncio.get_running_loop().create_future())
        self.waiting.append(request)
        if self.caller is None:
            # A task of its own: a client that disconnects does not cancel the call of the others.
            self.caller = asyncio.create_task(self.make_calls())
        row = await request.answer
        if row is None:
            trace.batch = None
        return row

    async def make_calls(self) -> None:
        try:
            while self.waiting:
                if self.turns:
                    await self.wait_for_turns()
                taken = [self.waiting.popleft() for _ in range(min(len(self.waiting), MAX_BATCH))]
                # Skip requests whose clients have disconnected.
                if batch := [request for request in taken if not request.answer.done()]:
                    await self.make_call(batch)
        finally:
            self.caller = None

    async def wait_for_turns(self) -> None:
        """Wait until no other batch has the turns of the latest one: the next has all requests that came until then."""
        try:
            await self.database.call_batch(TAKE_TURNS, {"turns": array(self.turns)}, self.route.reads)
        except (psycopg.Error, PoolTimeout, TooManyRequests, ConnectionLost):
            # A session that keeps a turn for so long is none of ours. Any other error the next call has as well.
            self.wary_until = 0.0

    async def make_call(self, batch: list[PendingRequest]) -> None:
        again = []
        self.calls += 1
        for request in batch:
            request.trace.batch = self.calls
        self.metrics.observe(BATCH_SIZE, self.route.batch_function, number=len(batch))
        try:
            traces = [request.trace for request in batch]
            parameters = self.arrays(batch)
            now = asyncio.get_running_loop().time()
            self.turns = turns_of(batch) if now < self.wary_until else []
            if self.turns:
                self.wary_until = now + WARY
                parameters["turns"] = array(self.turns)
            chosen = self.statement_in_turn if self.turns else self.statement
            rows = await self.database.call_batch(chosen, parameters, self.route.reads, traces)
            for request, (outcome, *row) in zip(batch, rows, strict=True):
                if request.answer.done():
                    continue
                if outcome == b"locked" and request.locked < MAX_LOCKED:
                    request.locked += 1
                    self.wary_until = now + WARY
                    again.append(request)
                else:
                    request.answer.set_result(row if outcome == b"done" else None)
        except Exception as error:
            # Each request gets the error, and turns it into its own answer.
            singly = self.is_retried_singly(error)
            for request in batch:
                if not request.answer.done():
                    request.answer.set_result(None) if singly else request.answer.set_exception(error)
            return
        self.waiting.extendleft(reversed(again))

    def is_retried_singly(self, error: Exception) -> bool:
        """Return whether each request gets a call of its own after its batch failed and did nothing.

        Then an unexpected error reaches only the request that caused it, and there is a second attempt after a deadlock
        or a serialization failure and, for a read, after a lost connection.
        """
        if isinstance(error, ConnectionLost):
            return self.route.reads
        if isinstance(error, TRANSIENT):
            return True
        return isinstance(error, psycopg.Error) and error.sqlstate is not None and code_of(error.sqlstate) is None

    def arrays(self, batch: list[PendingRequest]) -> dict[str, str | None]:
        """Return the parameters of the requests by columns, as array literals; a column of nulls is null."""
        columns = {
            argument.parameter: array([request.parameters[argument.parameter] for request in batch])
            for argument in self.route.batch_arguments
        }
        return columns | {"strings": array(["1" if request.strings else None for request in batch])}


def array(values: Sequence[str | None]) -> str | None:
    """Return the literal of an array; None if all values are null."""
    if values.count(None) == len(values):
        return None
    return f"{{{','.join(['null' if value is None else quoted(value) for value in values])}}}"


def quoted(value: str) -> str:
    if value.isdigit():
        return value
    value = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{value}"'


def turns_of(batch: Sequence[PendingRequest]) -> list[str]:
    """Return the participants of which a batch has several transfers, or one that found a row locked, in order."""
    counts: Counter[str | None] = Counter()
    for request in batch:
        number = POPULAR if request.locked else 1
        counts[request.parameters["from_id"]] += number
        counts[request.parameters["to_id"]] += number
    # Ascending, so that two batches cannot wait for each other. Of two participants with one number none is harmed.
    numbers = {int(participant or 0) % 2**31 for participant, count in counts.items() if count >= POPULAR}
    return [str(number) for number in sorted(numbers)]


def statement(route: Route, in_turn: bool = False) -> str:
    """Return the SQL of a batch: a row for each request, with its outcome and then the values of a call of its own.

    `in_turn` takes the turns of some participants first; they end with the transaction.
    """
    function = route.batch_function
    assert route.answer is not None
    assert function is not None
    values = [f"%({argument.parameter})s::{sql_type(argument.kind)}[]" for argument in route.batch_arguments]
    turns = ""
    if in_turn:
        # An argument depends on the turns, so the function cannot be called before.
        values[0] = f"case when turns.taken then {values[0]} end"
        turns = f"({TAKE_TURNS}) as turns cross join lateral"
    arguments = [
        f"{argument.parameter}s => {value}" for argument, value in zip(route.batch_arguments, values, strict=True)
    ]
    return f"""
        select
          {function}.outcome,
          case
            when {function}.outcome <> 'done' then null
            when (%(strings)s::boolean[])[{function}.place] then {json_of(route.answer, function, True)}
            else {json_of(route.answer, function, False)}
          end,
          null,
          {f"{function}.{route.entry}" if route.entry else "null"},
          false
        from {turns} ledger.{function}({", ".join(arguments)})
        order by {function}.place
    """
