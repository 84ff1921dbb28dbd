"""From a request to one function call to JSON, for every route in the same way.

PostgreSQL writes the JSON and its bytes pass through: no amount becomes a Python number on its way, in or out.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import NoReturn
from urllib.parse import urlencode

from sanic import HTTPResponse, Request

from api.errors import Problem
from api.routes import AMOUNTS, KEY, Argument, Route, Shape

BODY_LIMIT = 1 << 20  # bytes
MAX_ERRORS = 100  # bad fields that are told; a body may name a hundred thousand
MAX_LIMIT = 1000  # rows of a page
MAX_ID = str(2**63 - 1)
MAX_AMOUNT_DIGITS = 78  # of 2^256 - 1; the exact bound is a rule and lies in SQL

TYPES = {"id": "bigint", "after": "bigint", "limit": "integer", "amount": "numeric", "text": "text", "key": "text"}

DIGITS = re.compile("[0-9]+", re.ASCII)
VISIBLE = re.compile("[!-~]{1,255}")
SURROGATES = re.compile("[\ud800-\udfff]")
AMOUNTS_AS_STRINGS = re.compile(r'\s*amounts\s*=\s*"?string"?\s*(;.*)?', re.IGNORECASE)

MISSING = object()


class Number(str):
    """A JSON number as it was spelled."""


class Members(dict[str, object]):
    """A JSON object that knows which of its members were repeated."""

    repeated: frozenset[str] = frozenset()


def members(pairs: list[tuple[str, object]]) -> Members:
    result = Members(pairs)
    if len(result) < len(pairs):
        times = Counter(name for name, _ in pairs)
        result.repeated = frozenset(name for name, count in times.items() if count > 1)
    return result


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


DECODER = json.JSONDecoder(
    object_pairs_hook=members, parse_int=Number, parse_float=Number, parse_constant=refuse_constant
)


# The statements of a route


def statement(route: Route, amounts_as_strings: bool) -> str:
    """The SQL of a route's call, with a parameter for each argument by its name in the function.

    It returns one row: the JSON, then for a list the last id of a page that has a successor, else the id of what was
    created, the entry that was written, and whether an earlier request did it, where the route tells them.
    """
    arguments = [f"{argument.parameter} => {placeholder(argument)}" for argument in route.arguments]
    call = f"ledger.{route.function}({', '.join(arguments)})"
    answer = json_of(route.answer, route.function, amounts_as_strings) if route.answer else "null"
    if not route.many:
        told = (("id", route.location), ("entry_id", route.entry), ("replayed", route.keyed))
        extra = [f"{route.function}.{column}" if tells else "null" for column, tells in told]
        return f"select {', '.join([answer, *extra])} from {call}"
    # One row more than the page holds is asked for, to know whether there is one.
    return f"""
        select
          '[' || coalesce(string_agg(page.answer, ',' order by page.id) filter (where page.fits), '') || ']',
          case when not bool_and(page.fits) then max(page.id) filter (where page.fits) end
        from (
          select
            {answer} as answer,
            {route.function}.id,
            row_number() over (order by {route.function}.id) <= %(max_rows)s::integer as fits
          from {call}
        ) as page
    """


def placeholder(argument: Argument) -> str:
    value = f"%({argument.parameter})s::{TYPES[argument.kind]}"
    return f"{value} + 1" if argument.kind == "limit" else value


def json_of(shape: Shape, row: str, amounts_as_strings: bool) -> str:
    """The SQL expression that renders a row as JSON with exactly these members, in this order."""
    columns = []
    for member in shape:
        if isinstance(member, tuple):
            name, inner = member
            value = f"{json_of(inner, f'({row}.{name})', amounts_as_strings)}::json"
        else:
            name, value = member, f"{row}.{member}"
            if amounts_as_strings and name in AMOUNTS:
                value += "::text"
        columns.append(f"{value} as {name}")
    return f"(select row_to_json(o)::text from (select {', '.join(columns)}) as o)"


def has_amounts(shape: Shape | None) -> bool:
    return any(has_amounts(member[1]) if isinstance(member, tuple) else member in AMOUNTS for member in shape or ())


# The arguments of a request


async def read_arguments(route: Route, request: Request, parts: Mapping[str, str]) -> dict[str, str | None]:
    """The values for a route's call, as text, by parameter. Raises Problem with every bad field at once."""
    values: dict[str, str | None] = {}
    errors: dict[str, list[str]] = {}
    body = await read_body(request)
    if route.body:
        read_members(route, parse(request, body), parts, values, errors)
    read_query(route, request, values, errors)
    if route.keyed:
        read_key(request, values, errors)
    if errors:
        name, messages = next(iter(errors.items()))
        raise Problem("invalid_value", f"{name} {messages[0]}", dict(islice(errors.items(), MAX_ERRORS)))
    for argument in route.arguments:
        if argument.source == "path":
            number = parts[argument.name]
            if id_fault(number) is None:
                values[argument.parameter] = number
            elif route.body:
                # No row has the id -1: the function still gets to refuse bad values first.
                values[argument.parameter] = "-1"
            else:
                raise Problem("not_found", f"{request.path} does not exist")
    return values


async def read_body(request: Request) -> bytes:
    """The request's body, at most BODY_LIMIT bytes. What is longer is read to its end by the server and dropped."""
    length = request.headers.get("content-length", "")
    body = bytearray()
    if DIGITS.fullmatch(length) and (len(length) > 15 or int(length) > BODY_LIMIT):
        raise Problem("body_too_large", f"a body may have {BODY_LIMIT} bytes")
    if request.stream is not None:
        async for chunk in request.stream:
            body += chunk
            if len(body) > BODY_LIMIT:
                raise Problem("body_too_large", f"a body may have {BODY_LIMIT} bytes")
    return bytes(body)


def parse(request: Request, body: bytes) -> Members:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = re.search(r'charset\s*=\s*"?([^";\s]+)', parameters, re.IGNORECASE)
    if body and (
        media_type.strip().lower() != "application/json" or (charset and charset[1].lower() not in ("utf-8", "utf8"))
    ):
        raise Problem(
            "unsupported_media_type",
            "the body must be application/json in UTF-8",
            headers={"Accept-Patch" if request.method == "PATCH" else "Accept": "application/json"},
        )
    try:
        value = DECODER.decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Problem("invalid_json", "the body is not UTF-8") from None
    except RecursionError:
        raise Problem("invalid_json", "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem("invalid_json", f"the body is not JSON: {error}" if body else "the body is empty") from None
    if not isinstance(value, Members):
        raise Problem("invalid_json", "the body must be a JSON object")
    return value


def read_members(
    route: Route,
    body: Members,
    parts: Mapping[str, str],
    values: dict[str, str | None],
    errors: dict[str, list[str]],
) -> None:
    if route.wrapper in body:
        inner = body.pop(route.wrapper)
        for name in body:
            errors[printable(name)] = [f"must be inside {route.wrapper}"]
        if not isinstance(inner, Members):
            errors[route.wrapper] = ["must be an object"]
            return
        if route.wrapper in body.repeated:
            errors[route.wrapper] = ["must be given once"]
        body = inner
    names = {argument.name: argument for argument in route.body}
    frozen = dict(route.frozen)
    for argument in route.body:
        value = body.get(argument.name, MISSING)
        fault = FAULTS[argument.kind](value)
        if fault:
            errors[argument.name] = [fault]
        else:
            values[argument.parameter] = str(value)
    for name, value in body.items():
        if name in body.repeated:
            errors[printable(name)] = ["must be given once"]
        elif name in names:
            continue
        elif name == route.echoes:
            if id_fault(value) or significant(str(value)) != significant(parts[name]):
                errors[name] = ["must equal the one in the path"]
        else:
            errors[printable(name)] = [frozen.get(name, "is not known")]


def read_query(route: Route, request: Request, values: dict[str, str | None], errors: dict[str, list[str]]) -> None:
    known = {argument.name: argument for argument in route.arguments if argument.source == "query"}
    if known:
        values |= {"after": "0", "max_rows": str(MAX_LIMIT)}
    for name, given in request.get_args(keep_blank_values=True).items():
        argument = known.get(name)
        if argument is None:
            errors[printable(name)] = ["is not known"]
            continue
        fault = "must be given once" if len(given) > 1 else FAULTS[argument.kind](given[0])
        if fault:
            errors[name] = [fault]
        else:
            values[argument.parameter] = given[0]


def read_key(request: Request, values: dict[str, str | None], errors: dict[str, list[str]]) -> None:
    given = request.headers.getall(KEY.name, [])
    if len(given) > 1:
        errors[KEY.name] = ["must be given once"]
    elif given and not VISIBLE.fullmatch(given[0]):
        errors[KEY.name] = ["must be 1 to 255 visible ASCII characters"]
    else:
        values[KEY.parameter] = given[0] if given else None


def id_fault(value: object) -> str | None:
    digits = digits_of(value)
    if digits is None or digits == "":
        return "must be given" if value is MISSING or value is None else "must be a positive integer"
    return None if in_bigint(digits) else "must be below 2^63"


def after_fault(value: object) -> str | None:
    digits = digits_of(value)
    return "must be an id" if digits is None or not in_bigint(digits) else None


def limit_fault(value: object) -> str | None:
    digits = digits_of(value)
    if digits is None or len(digits) > 4 or not 1 <= int(digits or "0") <= MAX_LIMIT:
        return f"must be an integer from 1 to {MAX_LIMIT}"
    return None


def amount_fault(value: object) -> str | None:
    if value is MISSING or value is None:
        return "must be given"
    digits = digits_of(value)
    if digits is None:
        return "must be a whole number that is not negative, or a string of its digits"
    return "must be below 2^256" if len(digits) > MAX_AMOUNT_DIGITS else None


def text_fault(value: object) -> str | None:
    if value is MISSING or value is None:
        return "must be given"
    if not isinstance(value, str) or isinstance(value, Number):
        return "must be a string"
    if "\0" in value:
        return "must not contain control characters"
    if SURROGATES.search(value):
        return "must not contain half of a surrogate pair"
    return None


FAULTS = {
    "id": id_fault,
    "after": after_fault,
    "limit": limit_fault,
    "amount": amount_fault,
    "text": text_fault,
}


def digits_of(value: object) -> str | None:
    """The significant digits of a number that is spelled in ASCII digits alone; None for anything else."""
    return significant(value) if isinstance(value, str) and DIGITS.fullmatch(value) else None


def significant(number: str) -> str:
    return number.lstrip("0")


def in_bigint(digits: str) -> bool:
    return (len(digits), digits) <= (len(MAX_ID), MAX_ID)


def printable(name: str) -> str:
    """A member's name that a JSON answer in UTF-8 can hold."""
    return SURROGATES.sub("\ufffd", name)[:255]


# The answer


def prefers_strings(request: Request) -> bool:
    """Whether the client prefers amounts as strings (RFC 7240)."""
    return any(
        AMOUNTS_AS_STRINGS.fullmatch(preference)
        for header in request.headers.getall("prefer", ())
        for preference in header.split(",")
    )


def render(
    route: Route, request: Request, parameters: Mapping[str, str | None], row: list[bytes | None], strings: bool
) -> HTTPResponse:
    """The success answer of a call."""
    answer, identifier, entry, replayed = (*row, None, None, None)[:4]
    headers = {"Idempotency-Replayed": "true"} if replayed == b"t" else {}
    if route.answer is None:
        return HTTPResponse(status=route.status, headers=headers)
    body = b'{"data":' + (answer or b"null")
    if has_amounts(route.answer):
        headers["Vary"] = "Prefer"
        if strings:
            headers["Preference-Applied"] = "amounts=string"
    if route.many and identifier is not None:
        query = urlencode({"after": identifier.decode(), "limit": parameters["max_rows"]})
        following = f"{request.path}?{query}"
        headers["Link"] = f'<{following}>; rel="next"'
        body += b',"next":' + json.dumps(following).encode()
    if route.location and identifier is not None:
        headers["Location"] = f"{request.path.rstrip('/')}/{identifier.decode()}"
    if route.entry and entry is not None:
        headers["Ledger-Entry"] = entry.decode()
    return HTTPResponse(body + b"}", route.status, headers, "application/json")
