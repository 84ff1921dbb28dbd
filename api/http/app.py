"""Create the Sanic application: a handler for each route of the table, and one error shape."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

from sanic import Request, Sanic
from sanic.config import Config
from sanic.exceptions import RequestCancelled
from sanic.handlers import ErrorHandler

from api.http.arguments import read_arguments
from api.http.auth import Authenticator
from api.http.batching import CallBatches
from api.http.bodies import Turns, drop_body
from api.http.call import MINIMAL, STRINGS, preferred, render, render_export
from api.http.docs import Page, pages
from api.http.errors import from_database, from_framework
from api.http.explorer import explorer_pages
from api.http.export import Exports, is_whole
from api.http.feed import Feed
from api.http.formats import JSON, chosen
from api.http.gauges import Gauges
from api.http.origins import Origins
from api.http.protocol import connection_limit
from api.http.request import LoggedRequest, Telemetry, is_local
from api.http.responses import Response
from api.http.router import Router
from api.http.statement import export_statement, statement
from api.postgres.connection import Values
from api.postgres.pools import Database
from api.problems import Problem
from api.routes import DESCRIPTION, DOCS, LIVE, METRICS, ROUTES, Route
from api.telemetry.metrics import CONTENT_TYPE

logger = logging.getLogger("ledger")

MAX_HEADER = 16_384  # bytes, Sanic's ceiling
# How much of a refused body is still read, so that its client receives the answer and no reset.
MAX_DRAINED = 64 << 20  # bytes
# For a request to arrive completely: one of 1 MiB over a line of 300 kbit/s.
REQUEST_TIMEOUT = 30  # seconds
# Longer than the 130 seconds for which the load balancer of docs/operations.md keeps an idle connection and waits for
# an answer: if the worker closed it first, a request could arrive on a closed connection.
KEEP_ALIVE_TIMEOUT = 150  # seconds
# Longer than any call can take, its wait for a connection and its second attempt included.
RESPONSE_TIMEOUT = 120  # seconds
# Of Sanic's own answers to errors, all of which Problems replaces. Without it Sanic parses the source of each handler.
ERROR_FORMAT = "json"
Handler = Callable[..., Coroutine[Any, Any, Response]]
App = Sanic[Config, SimpleNamespace]


def create_app(
    conninfo: str,
    name: str,
    telemetry: Telemetry,
    open_at_first: bool,
    metrics_for_all: bool,
    origins: Origins = Origins(),  # noqa: B008 - it has nothing that changes
) -> App:
    """Create the application of one worker.

    `name` is the application_name of its connections; `open_at_first` requires no API key until one has been created;
    `origins` are the web pages that may use it.
    """
    app = Sanic(
        "ledger", configure_logging=False, router=Router(), error_handler=Problems(), request_class=LoggedRequest
    )
    app.ctx.telemetry = telemetry
    app.ctx.max_connections = connection_limit()
    app.ctx.origins = origins
    app.config.update(
        ACCESS_LOG=False,
        REQUEST_MAX_HEADER_SIZE=MAX_HEADER,
        REQUEST_MAX_SIZE=MAX_DRAINED,
        REQUEST_TIMEOUT=REQUEST_TIMEOUT,
        KEEP_ALIVE_TIMEOUT=KEEP_ALIVE_TIMEOUT,
        RESPONSE_TIMEOUT=RESPONSE_TIMEOUT,
    )
    database = Database(conninfo, name)
    authenticator = Authenticator(database, open_at_first, origins)
    batches = {route: CallBatches(route, database, telemetry.metrics) for route in ROUTES if route.batch_function}
    gauges = Gauges(telemetry, database, [*batches.values()])
    feed = Feed(database)
    turns = Turns()
    exports = Exports()

    @app.before_server_start
    async def open_database(*_: object) -> None:
        await database.open()
        gauges.measure_every_second()

    @app.before_server_stop
    async def end_long_polls(*_: object) -> None:
        feed.stop()

    @app.after_server_stop
    async def close_database(*_: object) -> None:
        await database.close()
        telemetry.log.flush()

    by_path: dict[str, list[str]] = defaultdict(list)
    counted: dict[str, str] = {}

    def add(path: str, methods: list[str], handler: Handler, name: str, counted_as: str | None = None) -> None:
        by_path[path] += methods
        counted[path] = counted_as or path
        app.add_route(handler, path, methods, name=name, stream=True, error_format=ERROR_FORMAT, ctx_path=counted[path])

    for route in ROUTES:
        # Sanic omits the body of the answer to a HEAD request.
        methods = [*route.methods, "HEAD"] if route.reads else [*route.methods]
        if route.function == "health":
            handler = without_body(handle_health(route, database, telemetry))
        else:
            handler = handle(
                route, database, authenticator, batches.get(route), turns, feed if route.feed else None, exports
            )
        add(route.path, methods, handler, f"{route.function}_{route.methods[0].lower()}")
    add(LIVE, ["GET", "HEAD"], without_body(show_live), "live")
    add(METRICS, ["GET", "HEAD"], without_body(handle_metrics(gauges, origins, metrics_for_all)), "metrics")
    for path, page in (pages() | explorer_pages()).items():
        add(
            path,
            ["GET", "HEAD"],
            without_body(page_handler(page)),
            f"page {path}",
            DESCRIPTION if path == DESCRIPTION else DOCS,
        )
    for path, methods in by_path.items():
        allowed = ", ".join([*methods, "OPTIONS"])
        app.add_route(
            without_body(allow_methods),
            path,
            ["OPTIONS"],
            name=f"options {path}",
            stream=True,
            error_format=ERROR_FORMAT,
            ctx_allowed=allowed,
            ctx_path=counted[path],
        )
    return app


def handle(
    route: Route,
    database: Database,
    authenticator: Authenticator,
    batches: CallBatches | None,
    turns: Turns,
    feed: Feed | None,
    exports: Exports,
) -> Handler:
    """Return the handler of a route: authenticate, read the arguments, make one call, render the answer."""
    queries = {None: statement(route, False), STRINGS: statement(route, True)}
    if route.minimal:
        queries[MINIMAL] = statement(route.minimal, False)
    offered = (JSON, *route.formats)
    exported = {
        (media_type, strings): export_statement(route, media_type, strings)
        for media_type in route.formats
        for strings in (False, True)
    }

    async def call(
        request: LoggedRequest, parameters: Mapping[str, str | None], applied: str | None, export: str | None = None
    ) -> Values:
        query = export or queries[applied]
        try:
            if feed:
                return await feed.read(query, parameters, request)
            row = await batches.call(parameters, applied == STRINGS, request) if batches else None
            return row or await database.call(query, parameters, route.reads, request)
        except Exception as error:
            problem = from_database(error, route, request.only_group)
            if problem is None:
                raise
            raise problem from error

    async def call_in_turn(request: LoggedRequest, parameters: Mapping[str, str | None], applied: str | None) -> Values:
        try:
            return await call(request, parameters, applied)
        finally:
            turns.give_back(request)

    async def export(
        request: LoggedRequest,
        parts: Mapping[str, str],
        parameters: Mapping[str, str | None],
        media_type: str,
        applied: str | None,
        admitted_until: float,
    ) -> Response:
        query = exported[media_type, applied == STRINGS]
        now = asyncio.get_running_loop().time

        async def read(parameters: Mapping[str, str | None]) -> Values:
            nonlocal admitted_until
            if now() >= admitted_until:
                admitted_until = await authenticator.admit(route, request, parts)
            return await call(request, parameters, applied, query)

        def pages(first: bytes, last: bytes) -> AsyncIterator[bytes]:
            return exports.pages(read, parameters, first, last)

        row = await call(request, parameters, applied, query)
        return render_export(route, request, parameters, row, media_type, applied, pages if is_whole(request) else None)

    async def handler(request: LoggedRequest, **parts: str) -> Response:
        admitted_until = await authenticator.admit(route, request, parts)
        try:
            parameters = await read_arguments(route, request, turns, parts)
        except BaseException:
            turns.give_back(request)
            raise
        applied = preferred(route, request)
        media_type = chosen(request.headers.getall("accept", ()), offered) if route.formats else JSON
        if media_type != JSON:
            return await export(request, parts, parameters, media_type, applied, admitted_until)
        if request.turns:
            row = await database.shield(call_in_turn(request, parameters, applied))
        else:
            row = await call(request, parameters, applied)
        if feed and route.waits:
            # A long poll.
            now = asyncio.get_running_loop().time
            ends = now() + float(request.args.get("wait") or 0)
            while row[1] is None and not feed.stopping and (left := ends - now()) > 0:
                goes_on = await feed.wait_for_more(parameters["after"], min(left, admitted_until - now()))
                admitted_until = await authenticator.admit(route, request, parts)
                if goes_on:
                    row = await call(request, parameters, applied)
        return render(route, request, parameters, row, applied)

    return handler


def handle_health(route: Route, database: Database, telemetry: Telemetry) -> Handler:
    """Return the handler of the health check. It answers in time even if the database does not."""
    query = statement(route, False)

    async def handler(request: Request) -> Response:
        if telemetry.metrics.draining:
            raise Problem("unavailable", "the server is about to stop")
        answer = await database.health.ask(query)
        if answer is None:
            raise Problem("unavailable", "the database does not answer")
        return render(route, request, {}, answer, None)

    return handler


def without_body(handler: Handler) -> Handler:
    """Return a handler that drops the body of its request before it answers."""

    async def answer(request: Request, **parts: str) -> Response:
        await drop_body(request)
        return await handler(request, **parts)

    return answer


async def show_live(request: Request) -> Response:
    """Answer that the process is alive, without the database."""
    return Response(b'{"data":{"status":"ok"}}', content_type="application/json")


def handle_metrics(gauges: Gauges, origins: Origins, for_all: bool) -> Handler:
    """Return the handler of a scrape: for clients on this machine, or `for_all`; never for a foreign web page."""

    async def handler(request: Request) -> Response:
        if not for_all and not is_local(request):
            raise Problem("not_found", f"{request.path} does not exist")
        origins.refuse_foreign(request, any_host=for_all)
        return Response(await gauges.text(request), content_type=CONTENT_TYPE)

    return handler


def page_handler(page: Page) -> Handler:
    """Return the handler of a page, which is the same for every client."""

    encoding = [("Content-Encoding", "gzip")]

    async def handler(request: Request) -> Response:
        compressed = await page.compressed()
        policy = [*page.headers.items(), *([("Vary", "Accept-Encoding")] if compressed else []), ("ETag", page.tag)]
        if has_tag(request, page.tag):
            return Response(status=304, policy=policy)
        if compressed and accepts_gzip(request):
            return Response(compressed, 200, encoding, page.media_type, policy=policy)
        return Response(page.content, content_type=page.media_type, policy=policy)

    return handler


def has_tag(request: Request, tag: str) -> bool:
    """Return whether the client has the page with this entity tag (RFC 9110, 13.1.2)."""
    held = ",".join(request.headers.getall("if-none-match", ())).split(",")
    return any(each.strip() in ("*", tag, tag.removeprefix("W/")) for each in held)


def accepts_gzip(request: Request) -> bool:
    """Return whether the client accepts gzip (RFC 9110, 12.5.3)."""
    weights = {"*": 0.0}
    for coding in ",".join(request.headers.getall("accept-encoding", ())).split(","):
        name, _, weight = coding.replace(" ", "").lower().partition(";q=")
        with suppress(ValueError):
            weights[name] = float(weight or 1)
    return weights.get("gzip", weights["*"]) > 0


async def allow_methods(request: Request, **parts: str) -> Response:
    assert request.route is not None
    allowed = request.route.ctx.allowed
    return Response(status=204, pairs=[("Allow", allowed), *request.app.ctx.origins.preflight(request, allowed)])


class Problems(ErrorHandler):
    """Answers every exception in the one error shape."""

    def response(self, request: Request, exception: Exception) -> Response:
        if isinstance(exception, RequestCancelled):
            return Response(status=499)  # is not sent: the client has disconnected
        problem = exception if isinstance(exception, Problem) else from_framework(exception, request)
        if problem is None:
            request_id = str(request.id)
            logger.error("a request failed", exc_info=exception, extra={"request_id": request_id})
            problem = Problem("internal_error", "an internal error; the log knows more", request_id=request_id)
        cast("LoggedRequest", request).problem = problem
        # Its frames, with the body, would live as long as the request.
        problem.__traceback__ = problem.__cause__ = problem.__context__ = None
        return Response(problem.body(), problem.status, problem.all_headers.items(), "application/problem+json")

    default = response
