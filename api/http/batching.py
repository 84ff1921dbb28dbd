"""Requests that arrive together share a call: transfers, and reads of a participant.

While one call is in flight, requests queue; the next call takes them all, in the order in which they came. A lone
request goes at once, and nothing waits for a timer. One commit then serves many transfers, and those of one popular
participant do not wait for each other's.

The function makes those that can be made without waiting for anybody. What it leaves is made by itself, in a call of
its own on another connection: a refusal, a repeated request, a row that stays locked; and so is what has a query, as a
read of the past. So no outcome fails or delays another beyond the call that both were in.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg_pool import TooManyRequests

from api.http.call import json_of
from api.http.values import sql_type
from api.postgres.connection import ConnectionLost, Values
from api.postgres.pools import TRANSIENT, Database, Trace
from api.problems import known
from api.routes import Route
from api.telemetry.metrics import TOGETHER, Metrics

MAX_TOGETHER = 128  # requests of one call: with more, the worker waits for a long call and then the database for it
MAX_WAITING = 4096  # requests; one more is refused
MAX_LOCKED = 3  # calls that find a row locked before a transfer waits for it by itself


@dataclass(eq=False, slots=True)
class Waiting:
    """A request that waits for its answer; None says that it is to be made by itself."""

    parameters: Mapping[str, str | None]
    strings: bool
    trace: Trace
    answer: asyncio.Future[Values | None]
    locked: int = 0


class SharedCalls:
    """The calls of one route that one worker's requests share."""

    def __init__(self, route: Route, database: Database, metrics: Metrics) -> None:
        self.route = route
        self.database = database
        self.metrics = metrics
        self.alone = [argument.parameter for argument in route.query]  # what a shared call cannot have
        self.calls = 0
        self.statement = statement(route)
        self.waiting: deque[Waiting] = deque()
        self.caller: asyncio.Task[None] | None = None

    async def call(self, parameters: Mapping[str, str | None], strings: bool, trace: Trace) -> Values | None:
        """Make a call together with others; the row of its answer, or None where it is to be made by itself.

        Raises psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, ConnectionLost.
        """
        for name in self.alone:
            if parameters[name] is not None:
                return None
        if len(self.waiting) >= MAX_WAITING:
            raise TooManyRequests(f"{MAX_WAITING} requests are waiting")
        request = Waiting(parameters, strings, trace, asyncio.get_running_loop().create_future())
        self.waiting.append(request)
        if self.caller is None:
            # A task of its own: a client that goes away does not take the others' call along.
            self.caller = asyncio.create_task(self.make_calls())
        row = await request.answer
        if row is None:
            trace.batch = None
        return row

    async def make_calls(self) -> None:
        try:
            while self.waiting:
                taken = [self.waiting.popleft() for _ in range(min(len(self.waiting), MAX_TOGETHER))]
                # Whoever has gone meanwhile asks for nothing any more.
                if together := [request for request in taken if not request.answer.done()]:
                    await self.make_call(together)
        finally:
            self.caller = None

    async def make_call(self, together: list[Waiting]) -> None:
        again = []
        self.calls += 1
        for request in together:
            request.trace.batch = self.calls
        self.metrics.observe(TOGETHER, self.route.together, number=len(together))
        try:
            traces = [request.trace for request in together]
            rows = await self.database.call_shared(self.statement, self.arrays(together), self.route.reads, traces)
            for request, (outcome, *row) in zip(together, rows, strict=True):
                if request.answer.done():
                    continue
                if outcome == b"locked" and request.locked < MAX_LOCKED:
                    request.locked += 1
                    again.append(request)
                else:
                    request.answer.set_result(row if outcome == b"done" else None)
        except Exception as error:
            # Each who waits hears of it, and says what it means.
            alone = self.is_worth_another_call(error)
            for request in together:
                if not request.answer.done():
                    request.answer.set_result(None) if alone else request.answer.set_exception(error)
            return
        self.waiting.extendleft(reversed(again))

    def is_worth_another_call(self, error: Exception) -> bool:
        """Whether each of the requests is to be made by itself after a shared call that failed and did nothing.

        A call of its own tells whose fault it was that nobody expected, and tries again after a deadlock or a
        serialization failure, and, for one that reads, after a lost connection.
        """
        if isinstance(error, ConnectionLost):
            return self.route.reads
        if isinstance(error, TRANSIENT):
            return True
        return isinstance(error, psycopg.Error) and error.sqlstate is not None and known(error.sqlstate) is None

    def arrays(self, together: list[Waiting]) -> dict[str, str | None]:
        """The parameters of the requests by columns, as PostgreSQL's array literals; a column of nulls is null."""
        columns = {
            argument.parameter: array([request.parameters[argument.parameter] for request in together])
            for argument in self.route.shared
        }
        return columns | {"strings": array(["1" if request.strings else None for request in together])}


def array(values: Sequence[str | None]) -> str | None:
    """The literal of an array; null where it would hold nulls alone."""
    if values.count(None) == len(values):
        return None
    return f"{{{','.join(['null' if value is None else quoted(value) for value in values])}}}"


def quoted(value: str) -> str:
    if value.isdigit():
        return value
    value = value.replace("\\", r"\\").replace('"', r"\"")
    return f'"{value}"'


def statement(route: Route) -> str:
    """The SQL of a shared call: a row for each request, its outcome and then the values that a call of its own has."""
    function = route.together
    arguments = [
        f"{argument.parameter}s => %({argument.parameter})s::{sql_type(argument.kind)}[]" for argument in route.shared
    ]
    assert route.answer is not None
    assert function is not None
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
        from ledger.{function}({", ".join(arguments)})
        order by {function}.place
    """
