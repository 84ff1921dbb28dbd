"""The Sanic application: every route of the table, one error shape, a database for each worker."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sanic.config import Config
from sanic.exceptions import RequestCancelled
from sanic.handlers import ErrorHandler

from api.access import Access
from api.arguments import read_arguments
from api.batching import SharedCalls
from api.call import prefers_strings, render, statement
from api.database import Database, Values
from api.errors import Problem, from_database, from_framework
from api.routes import ROUTES, Route

logger = logging.getLogger("ledger")

MAX_HEADER = 16_384  # bytes, Sanic's ceiling
# How much of a body that is refused is still read, so that its client gets to see the answer and no reset.
MAX_DRAINED = 64 << 20  # bytes
# For a request to arrive whole: one of 1 MiB over a line of 300 kbit/s.
REQUEST_TIMEOUT = 30  # seconds
# Longer than any call can take, its wait for a connection and its second attempt included.
RESPONSE_TIMEOUT = 120  # seconds
# How often the feed is looked at for a client that waits. It holds no connection in between.
FEED_INTERVAL = 0.25  # seconds

Handler = Callable[..., Coroutine[Any, Any, HTTPResponse]]
App = Sanic[Config, SimpleNamespace]


def create_app(conninfo: str, name: str, open_at_first: bool) -> App:
    """The application of one worker.

    `name` is what PostgreSQL shows of its connections; `open_at_first` asks for no API key until one has been made.
    """
    app = Sanic("ledger", configure_logging=False, error_handler=Problems())
    app.config.update(
        ACCESS_LOG=False,
        REQUEST_MAX_HEADER_SIZE=MAX_HEADER,
        REQUEST_MAX_SIZE=MAX_DRAINED,
        REQUEST_TIMEOUT=REQUEST_TIMEOUT,
        RESPONSE_TIMEOUT=RESPONSE_TIMEOUT,
    )
    database = Database(conninfo, name)
    access = Access(database, open_at_first)
    stopping = asyncio.Event()

    @app.before_server_start
    async def open_database(*_: object) -> None:
        await database.open()

    @app.before_server_stop
    async def send_waiting_clients_home(*_: object) -> None:
        stopping.set()

    @app.after_server_stop
    async def close_database(*_: object) -> None:
        await database.close()

    by_path: dict[str, list[str]] = defaultdict(list)
    for route in ROUTES:
        # Sanic leaves the body of a HEAD request's answer away.
        methods = [*route.methods, "HEAD"] if route.reads else [*route.methods]
        by_path[route.path] += methods
        is_health = route.function == "health"
        handler = handle_health(route, database) if is_health else handle(route, database, access, stopping)
        app.add_route(handler, route.path, methods, name=f"{route.function}_{route.methods[0].lower()}", stream=True)
    for path, methods in by_path.items():
        allowed = ", ".join([*methods, "OPTIONS"])
        app.add_route(tell_methods, path, ["OPTIONS"], name=f"options {path}", ctx_allowed=allowed)
    return app


def handle(route: Route, database: Database, access: Access, stopping: asyncio.Event) -> Handler:
    """The handler of a route: who asks, arguments, one call, the answer."""
    as_numbers, as_strings = statement(route, False), statement(route, True)
    shared = SharedCalls(route, database) if route.together else None

    async def handler(request: Request, **parts: str) -> HTTPResponse:
        await access.admit(route, request, parts)
        parameters = await read_arguments(route, request, parts)
        strings = route.has_amounts and prefers_strings(request)

        async def call() -> Values:
            try:
                row = await shared.call(parameters, strings) if shared else None
                return row or await database.call(as_strings if strings else as_numbers, parameters, route.reads)
            except Exception as error:
                problem = from_database(error, route)
                if problem is None:
                    raise
                raise problem from error

        row = await call()
        if route.feed:
            # A long poll. Nothing wakes it: a NOTIFY in the money's transaction would take a lock of the whole server.
            patience = asyncio.get_running_loop().time() + float(request.args.get("wait") or 0)
            while row[1] is None and not stopping.is_set():
                left = patience - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), min(left, FEED_INTERVAL))
                await access.admit(route, request, parts)
                row = await call()
        return render(route, request, parameters, row, strings)

    return handler


def handle_health(route: Route, database: Database) -> Handler:
    """The health check's handler. It answers in time, whatever the database does."""
    query = statement(route, False)

    async def handler(request: Request) -> HTTPResponse:
        answer = await database.ask_health(query)
        if answer is None:
            raise Problem("unavailable", "the database does not answer")
        return render(route, request, {}, [answer], False)

    return handler


async def tell_methods(request: Request, **parts: str) -> HTTPResponse:
    assert request.route is not None
    return HTTPResponse(status=204, headers={"Allow": request.route.ctx.allowed})


class Problems(ErrorHandler):
    """Answers every exception in the one error shape."""

    def response(self, request: Request, exception: Exception) -> HTTPResponse:
        if isinstance(exception, RequestCancelled):
            return HTTPResponse(status=499)  # to nobody: the client has gone
        problem = exception if isinstance(exception, Problem) else from_framework(exception, request)
        if problem is None:
            logger.error("request %s failed", request.id, exc_info=exception)
            problem = Problem("internal_error", "an internal error; the log knows more", request_id=str(request.id))
        return HTTPResponse(problem.body(), problem.status, problem.all_headers, "application/problem+json")

    default = response
