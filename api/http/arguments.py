"""Read the arguments of a route's call from its request; report all invalid values at once."""

import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import islice
from typing import cast

from sanic import Request
from sanic.http import Http

from api.http.bodies import Turns, decode, read_body
from api.http.protocol import Connection
from api.http.request import LoggedRequest
from api.http.values import (
    MAX_LIMIT,
    MISSING,
    Members,
    id_error,
    printable,
    read,
    significant,
    wait_error,
)
from api.problems import Problem
from api.routes import IDEMPOTENCY_KEY, Argument, Route

MISNAMED_IDEMPOTENCY_KEY = f"X-{IDEMPOTENCY_KEY.name}"

MAX_ERRORS = 100  # fields that are reported; a body may have a hundred thousand

VISIBLE = re.compile("[!-~]{1,255}")

# The default of a query's parameter; null for those that are not here.
DEFAULTS = {"after": "0", "limit": str(MAX_LIMIT), "order": "false"}

Values = dict[str, str | None]
Errors = dict[str, list[str]]


async def read_arguments(route: Route, request: LoggedRequest, turns: Turns, parts: Mapping[str, str]) -> Values:
    """Return the values for a route's call, as text, by parameter. Raises Problem with every invalid value at once.

    For a large body it takes a turn, which the caller gives back.
    """
    values: Values = {}
    errors: Errors = {}
    stream = cast("Http", request.stream)
    connection = cast("Connection", stream.protocol)
    try:
        body = await read_body(route, stream) if stream.request_body else b""
        # Some clients send null for no body.
        if route.body and (route.needs_body or (body and body.strip(b" \t\r\n") != b"null")):
            read_members(route, await parse(route, request, turns, body), parts, values, errors)
        else:
            values.update((argument.parameter, None) for argument in route.body)
    finally:
        if connection.body_size:
            connection.hold_body(0)
    if route.query or request.query_string:
        read_query(route, request, values, errors)
    if route.takes_idempotency_key:
        read_idempotency_key(request, values, errors)
    if errors:
        name, messages = next(iter(errors.items()))
        raise Problem("invalid_value", f"{name} {messages[0]}", dict(islice(errors.items(), MAX_ERRORS)))
    for argument in route.parts:
        number = parts[argument.name]
        if id_error(number) is None:
            values[argument.parameter] = number
        elif route.body:
            # No row has the id -1: the function still gets to refuse bad values first.
            values[argument.parameter] = "-1"
        else:
            raise Problem("not_found", f"{request.path} does not exist")
    return values


async def parse(route: Route, request: LoggedRequest, turns: Turns, body: bytes | bytearray) -> Members:
    if "content-encoding" in request.headers:
        refuse_coding(request)
    if body and not is_json(request.headers.get("content-type", "")):
        raise Problem(
            "unsupported_media_type",
            "the body must be application/json in UTF-8",
            headers=accepted(request),
        )
    value = await decode(route, request, turns, body)
    if not isinstance(value, Members):
        raise Problem("invalid_json", "the body must be a JSON object")
    return value


def refuse_coding(request: Request) -> None:
    """Raise Problem for a body that is compressed, or encoded in any other way (RFC 9110, 15.5.16)."""
    codings = ",".join(request.headers.getall("content-encoding")).lower().split(",")
    if {coding.strip(" \t") for coding in codings} - {"identity", ""}:
        raise Problem(
            "unsupported_media_type",
            "the body must be sent as it is, without Content-Encoding",
            headers={"Accept-Encoding": "identity", **accepted(request)},
        )


def accepted(request: Request) -> dict[str, str]:
    """The header that names the media type that a body must have."""
    return {"Accept-Patch" if request.method == "PATCH" else "Accept": "application/json"}


def is_json(content_type: str) -> bool:
    if content_type == "application/json":
        return True
    media_type, _, parameters = content_type.partition(";")
    charset = re.search(r'charset\s*=\s*"?([^";\s]+)', parameters, re.IGNORECASE)
    in_utf8 = charset is None or charset[1].lower() in ("utf-8", "utf8")
    return in_utf8 and media_type.strip().lower() == "application/json"


def read_members(
    route: Route,
    body: Members,
    parts: Mapping[str, str],
    values: Values,
    errors: Errors,
) -> None:
    if route.wrapper and route.wrapper in body:
        inner = body.pop(route.wrapper)
        for name in body:
            errors[printable(name)] = [f"must be inside {route.wrapper}"]
        if not isinstance(inner, Members):
            errors[route.wrapper] = ["must be an object"]
            return
        if route.wrapper in body.repeated:
            errors[route.wrapper] = ["must be given once"]
        body = inner
    known = 0
    for argument in route.body:
        value = body.get(argument.name, MISSING)
        known += value is not MISSING
        if argument.optional and (value is MISSING or value is None):
            values[argument.parameter] = None
            continue
        reasons, values[argument.parameter] = read(argument.kind, value)
        for part, reason in reasons.items():
            errors[f"{argument.name}{part}"] = [reason]
    if known == len(body) and not body.repeated:
        return
    names = {argument.name for argument in route.body}
    frozen = dict(route.frozen)
    for name, value in body.items():
        if name in body.repeated:
            errors[printable(name)] = ["must be given once"]
        elif name in names:
            continue
        elif name == route.echoes:
            if id_error(value) or significant(str(value)) != significant(parts[name]):
                errors[name] = ["must equal the one in the path"]
        else:
            errors[printable(name)] = [frozen.get(name, "is not known")]


def read_query(route: Route, request: Request, values: Values, errors: Errors) -> None:
    for argument in route.query:
        values[argument.parameter] = DEFAULTS.get(argument.kind)
    if not request.query_string:
        return
    known: dict[str, list[Argument]] = defaultdict(list)
    for argument in route.query:
        known[argument.name].append(argument)
    for name, given in request.get_args(keep_blank_values=True).items():
        if name == "wait" and route.waits:
            reason = "must be given once" if len(given) > 1 else wait_error(given[0])
            if reason:
                errors[name] = [reason]
            continue
        if name not in known:
            errors[printable(name)] = ["is not known"]
            continue
        if len(given) > 1:
            errors[name] = ["must be given once"]
            continue
        found: list[str] = []
        for argument in known[name]:
            reasons, spelled = read(argument.kind, given[0])
            if not reasons:
                values[argument.parameter] = spelled
                break
            found += reasons.values()
        else:
            errors[name] = [" or ".join(found)]


def read_idempotency_key(request: Request, values: Values, errors: Errors) -> None:
    given = request.headers.getall(IDEMPOTENCY_KEY.name, ())
    if MISNAMED_IDEMPOTENCY_KEY in request.headers:
        # If it were ignored, a repeated request would be done again.
        errors[MISNAMED_IDEMPOTENCY_KEY] = [f"is not known; the header is {IDEMPOTENCY_KEY.name}"]
    if len(given) > 1:
        errors[IDEMPOTENCY_KEY.name] = ["must be given once"]
    elif given and not VISIBLE.fullmatch(given[0]):
        errors[IDEMPOTENCY_KEY.name] = ["must be 1 to 255 visible ASCII characters"]
    else:
        values[IDEMPOTENCY_KEY.parameter] = given[0] if given else None
