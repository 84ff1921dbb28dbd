"""Turn the errors of the database and of Sanic into problems."""

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests
from sanic import Request
from sanic.exceptions import MethodNotAllowed, NotFound, PayloadTooLarge, SanicException

from api.postgres.connection import ConnectionLost
from api.problems import PROBLEMS, Problem, code_of
from api.routes import Route

# The codes of Sanic's own refusals, by their status.
FRAMEWORK = {
    400: "bad_request",
    408: "request_timeout",
    413: "body_too_large",
    417: "expectation_failed",
    503: "outcome_unknown",  # its time-out for a handler
}


def from_database(error: Exception, route: Route, only_group: int | None = None) -> Problem | None:
    """Return the problem of a failed call; None for an error that a client must not see.

    `only_group` is the group of the client's API key, if the key is for one group.
    """
    if isinstance(error, ConnectionLost):
        if route.reads:
            return Problem(
                "unavailable", "the connection to the database was lost; nothing was changed", sqlstate=error.sqlstate
            )
        return Problem(
            "outcome_unknown",
            "the connection to the database was lost before it answered; whether the call was done is not known",
            sqlstate=error.sqlstate,
        )
    if isinstance(error, PoolTimeout | TooManyRequests):
        return Problem("busy", "the server is busy; nothing was done")
    if not isinstance(error, psycopg.Error):
        return None
    state = error.sqlstate
    if state is None:
        # Without a SQLSTATE no server answered.
        if isinstance(error, psycopg.OperationalError):
            return Problem("unavailable", "the database cannot be reached; nothing was done")
        return None
    code = code_of(state)
    if code is None:
        return None
    if not state.startswith("LG"):
        # The server's message may quote rows.
        return Problem(code, f"{PROBLEMS[code][1].lower()}; nothing was done", sqlstate=state)
    errors = fields(error.diag, route)
    detail = error.diag.message_primary or ""
    if code == "invalid_value" and errors:
        # DETAIL has the parameter's name; a client knows the member of the body.
        detail = next(f"{name} {messages[0]}" for name, messages in errors.items())
    if code == "already_taken" and "name" in errors and only_group is not None:
        # Which group has the name is for clients that may read it.
        detail = "name is taken"
    return Problem(code, detail, errors, state)


def fields(diag: psycopg.errors.Diagnostic, route: Route) -> dict[str, list[str]]:
    """Return the fields that DETAIL lists, one `parameter: message` a line, by their names in the request.

    A part of a parameter, as transfers[0].amount, is named after it.
    """
    names = {argument.parameter: argument.name for argument in route.arguments if argument.source != "path"}
    blamed: dict[str, list[str]] = {}
    for line in (diag.message_detail or "").splitlines():
        field, _, message = line.partition(": ")
        parameter, bracket, part = field.partition("[")
        if parameter in names:
            blamed.setdefault(names[parameter] + bracket + part, []).append(message)
    return blamed


def from_framework(error: Exception, request: Request) -> Problem | None:
    """Return the problem of one of Sanic's own refusals; None for any other exception."""
    if isinstance(error, NotFound):
        return Problem("not_found", f"{request.path} does not exist")
    if isinstance(error, MethodNotAllowed):
        allowed = request.app.router.get(request.path, "OPTIONS", None)[0].ctx.allowed
        return Problem("method_not_allowed", f"{request.path} knows {allowed}", headers={"Allow": allowed})
    if isinstance(error, PayloadTooLarge) and "header" in str(error):
        return Problem("header_too_large", "the request's header is too large")
    code = FRAMEWORK.get(error.status_code) if isinstance(error, SanicException) else None
    return Problem(code, str(error) or PROBLEMS[code][1].lower()) if code else None
