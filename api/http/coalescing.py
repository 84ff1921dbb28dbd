"""Coalesce questions to the database that many requests ask at the same time.

One call is in flight at a time. Questions queue during this time, equal ones as one, and the next call takes them in
the order in which they came. A call takes only questions that were asked before it began, so no request gets an answer
that is older than the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from itertools import islice
from typing import Generic, TypeVar

import psycopg

from api.postgres.connection import ConnectionLost

SLICE = 32  # requests that continue in one turn of the event loop, so that others are served in between

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Coalescer(Generic[K, V]):
    """Asks one kind of question; `call` answers up to `most` questions at once, in their order."""

    def __init__(self, call: Callable[[list[K]], Awaitable[list[V]]], most: int) -> None:
        self.call = call
        self.most = most
        self.queued: dict[K, list[asyncio.Future[V]]] = {}
        self.caller: asyncio.Task[None] | None = None

    async def ask(self, question: K) -> V:
        """Return the answer to a question. Raises the call's exceptions."""
        answer: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self.queued.setdefault(question, []).append(answer)
        if self.caller is None:
            # A task of its own: a client that disconnects does not cancel the call of the others.
            self.caller = asyncio.create_task(self.make_calls())
        return await answer

    async def make_calls(self) -> None:
        try:
            while self.queued:
                taken = [(question, self.queued.pop(question)) for question in [*islice(self.queued, self.most)]]
                # Skip questions whose clients have all disconnected.
                if asked := [each for each in taken if not all(answer.done() for answer in each[1])]:
                    await self.make_call(asked)
        finally:
            self.caller = None

    async def make_call(self, asked: list[tuple[K, list[asyncio.Future[V]]]]) -> None:
        try:
            answers = await self.call([question for question, _ in asked])
        except Exception as error:
            failed = [answer for _, each in asked for answer in each]
            if is_connection_error(error):
                # The next calls would fail in the same way, one after the other.
                failed += [answer for each in self.queued.values() for answer in each]
                self.queued.clear()
            await resolve(failed, error)
            return
        for (_, each), value in zip(asked, answers, strict=True):
            await resolve(each, value)


async def resolve(waiting: Iterable[asyncio.Future[V]], answer: V | Exception, at_once: int = SLICE) -> None:
    """Resolve the futures that still wait, with an answer or an error; `at_once` of them in one turn of the loop."""
    for number, future in enumerate(waiting, 1):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        if number % at_once == 0:
            await asyncio.sleep(0)


def is_connection_error(error: Exception) -> bool:
    """Return whether a call failed because of the database or the connection, and not because of its questions."""
    return isinstance(error, ConnectionLost) or (
        isinstance(error, psycopg.OperationalError) and error.sqlstate is None  # no server answered
    )
