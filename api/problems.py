"""The one error shape: problem details (RFC 9457), whatever refused the request."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests
from sanic import Request
from sanic.exceptions import MethodNotAllowed, NotFound, PayloadTooLarge, SanicException

from api.routes import Route

# code -> HTTP status, title
PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid_json": (400, "Invalid JSON"),
    "bad_request": (400, "Bad request"),
    "unauthorized": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "foreign_origin": (403, "Foreign origin"),
    "insufficient_funds": (403, "Insufficient funds"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "request_timeout": (408, "Request timed out"),
    "group_not_empty": (409, "Group not empty"),
    "already_reversed": (409, "Already reversed"),
    "already_settled": (409, "Already settled"),
    "cursor_expired": (410, "Cursor expired"),
    "body_too_large": (413, "Body too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "expectation_failed": (417, "Expectation failed"),
    "invalid_value": (422, "Invalid value"),
    "already_taken": (422, "Already taken"),
    "idempotency_key_reused": (422, "Idempotency key reused"),
    "header_too_large": (431, "Header too large"),
    "internal_error": (500, "Internal error"),
    "busy": (503, "Busy"),
    "unavailable": (503, "Unavailable"),
    "outcome_unknown": (504, "Outcome unknown"),
}

# SQLSTATE -> code; where a state is missing, its class (the first two characters) counts. Of PostgreSQL's other classes
# an error is a fault of ours or of the database, which no later attempt mends: internal_error, and the log has it.
SQLSTATES: dict[str, str] = {
    "LG001": "invalid_value",
    "LG002": "not_found",
    "LG003": "insufficient_funds",
    "LG004": "group_not_empty",
    "LG005": "already_taken",
    "LG006": "idempotency_key_reused",
    "LG007": "already_reversed",
    "LG008": "already_settled",
    "LG009": "cursor_expired",
    "40001": "busy",  # serialization_failure
    "40P01": "busy",  # deadlock_detected
    "55P03": "busy",  # lock_not_available
    "57014": "busy",  # query_canceled, by statement_timeout
    "25006": "unavailable",  # read_only_sql_transaction: a standby
    "53": "unavailable",  # insufficient resources: connections, disk, memory
    "57": "unavailable",  # operator intervention: shutting down, starting up
    "58": "unavailable",  # system errors: input and output, a full disk among them
    "72": "busy",  # snapshot_too_old
}

# States and classes after which nobody knows whether the call was done. 08: the server that answers (a pooler, a proxy)
# lost its connection to the one that does the work; 40003 is statement_completion_unknown.
OUTCOME_UNKNOWN = ("08", "40003")

# Seconds after which a client may try again what was not done.
RETRY_AFTER = {"busy": "1", "unavailable": "5"}

# What Sanic refuses by itself, by its status.
FRAMEWORK = {
    400: "bad_request",
    408: "request_timeout",
    413: "body_too_large",
    417: "expectation_failed",
    503: "outcome_unknown",  # its time-out for a handler
}


@dataclass(eq=False)
class Problem(Exception):
    """A request that was refused or that failed.

    `errors` maps each field to blame to its messages; `sqlstate` is set when the database refused.
    """

    code: str
    detail: str
    errors: Mapping[str, list[str]] = field(default_factory=dict)
    sqlstate: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = None

    @property
    def status(self) -> int:
        return PROBLEMS[self.code][0]

    @property
    def all_headers(self) -> dict[str, str]:
        retry = {"Retry-After": RETRY_AFTER[self.code]} if self.code in RETRY_AFTER else {}
        return retry | dict(self.headers)

    def body(self) -> bytes:
        status, title = PROBLEMS[self.code]
        members: dict[str, object] = {
            "type": f"/problems/{self.code.replace('_', '-')}",
            "title": title,
            "status": status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.sqlstate:
            members["sqlstate"] = self.sqlstate
        if self.request_id:
            members["request_id"] = self.request_id
        members["errors"] = dict(self.errors) or {"detail": title}
        return json.dumps(members, separators=(",", ":")).encode()


@dataclass(eq=False)
class ConnectionLost(Exception):
    """The connection broke while a call was under way, so that the call may have been done.

    `sqlstate` is set when a server reported it.
    """

    sqlstate: str | None = None


def outcome_is_unknown(error: psycopg.Error) -> bool:
    """Whether a server reported that it does not know whether the call was done."""
    return (error.sqlstate or "").startswith(OUTCOME_UNKNOWN)


def known(state: str) -> str | None:
    """The code of a SQLSTATE, or of its class; None for what a client must not be told."""
    return SQLSTATES.get(state) or SQLSTATES.get(state[:2])


def from_database(error: Exception, route: Route, only_group: int | None = None) -> Problem | None:
    """What a failed call means to the client; None for what it must not be told.

    `only_group` is the group that the client's API key is for, where it is for one.
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
    code = known(state)
    if code is None:
        return None
    if not state.startswith("LG"):
        # The server's own words may quote rows.
        return Problem(code, f"{PROBLEMS[code][1].lower()}; nothing was done", sqlstate=state)
    errors = fields(error.diag, route)
    detail = error.diag.message_primary or ""
    if code == "invalid_value" and errors:
        # SQL names its parameter, HTTP the member of the body.
        detail = next(f"{name} {messages[0]}" for name, messages in errors.items())
    if code == "already_taken" and "name" in errors and only_group is not None:
        # Which group has the name is for clients that may read it.
        detail = "name is taken"
    return Problem(code, detail, errors, state)


def fields(diag: psycopg.errors.Diagnostic, route: Route) -> dict[str, list[str]]:
    """The fields that DETAIL blames, one `parameter: message` a line, by their names in the request.

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
    """What Sanic refused by itself; None for any other exception."""
    if isinstance(error, NotFound):
        return Problem("not_found", f"{request.path} does not exist")
    if isinstance(error, MethodNotAllowed):
        allowed = request.app.router.get(request.path, "OPTIONS", None)[0].ctx.allowed
        return Problem("method_not_allowed", f"{request.path} knows {allowed}", headers={"Allow": allowed})
    if isinstance(error, PayloadTooLarge) and "header" in str(error):
        return Problem("header_too_large", "the request's header is too large")
    code = FRAMEWORK.get(error.status_code) if isinstance(error, SanicException) else None
    return Problem(code, str(error) or PROBLEMS[code][1].lower()) if code else None
