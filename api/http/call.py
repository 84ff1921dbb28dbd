"""Make the SQL of a route's function call, and the response from its row, in the same way for every route.

PostgreSQL writes the JSON and its bytes pass through: no amount becomes a Python number.
"""

import json
from collections.abc import Mapping
from urllib.parse import urlencode

from sanic import Request

from api.http.preferences import prefers
from api.http.responses import Response
from api.http.values import MAX_LIMIT, sql_type
from api.routes import AMOUNTS, Argument, Route, Shape


def statement(route: Route, amounts_as_strings: bool) -> str:
    """Return the SQL of a route's call, with a parameter for each argument by its name in the function.

    It returns one row. For a list: the body of the answer without its end, and the last id of a page that has a
    successor (of the feed, the last cursor). Otherwise: the JSON, and then, where the route has them, the id of what
    was created, the entry that was written, and whether an earlier request did it.
    """
    arguments = [f"{argument.parameter} => {placeholder(argument, route)}" for argument in route.arguments]
    call = f"ledger.{route.function}({', '.join(arguments)})"
    answer = json_of(route.answer, route.function, amounts_as_strings) if route.answer else "null"
    if not route.many:
        optional = ((route.key, route.location), (route.entry, route.entry), ("replayed", route.takes_idempotency_key))
        extra = [f"{route.function}.{column}" if present else "null" for column, present in optional]
        return f"select {', '.join([answer, *extra])} from {call}"
    # The call asks for one row more than the page has, to know whether there is a next page; the feed always has one.
    place = "cursor" if route.feed else route.key
    goes_on = "true" if route.feed else "count(*) > %(max_rows)s::integer"
    return f"""
        select
          '{{"data":['
            || coalesce(string_agg(page.answer, ',' order by page.ordinality) filter (where page.fits), '')
            || ']',
          case when {goes_on}
            then (array_agg(page.{place} order by page.ordinality desc) filter (where page.fits))[1]
          end
        from (
          select
            {answer}::text as answer,
            {route.function}.{place},
            {route.function}.ordinality,
            {route.function}.ordinality <= %(max_rows)s::integer as fits
          from {call} with ordinality as {route.function}
        ) as page
    """


def placeholder(argument: Argument, route: Route) -> str:
    value = f"%({argument.parameter})s::{sql_type(argument.kind)}"
    return f"{value} + 1" if argument.kind == "limit" and not route.feed else value


def json_of(shape: Shape, row: str, amounts_as_strings: bool) -> str:
    """Return the SQL expression that renders a row as JSON with these members, in this order.

    Optional ones are left out where they are null.
    """
    columns = []
    for member in shape:
        value = f"{row}.{member.column}"
        if member.is_list:
            each = json_of(member.members, "i", amounts_as_strings)
            value = f"(select coalesce(array_to_json(array_agg({each})), '[]') from unnest({value}) as i)"
        elif member.members:
            value = json_of(member.members, f"({value})", amounts_as_strings)
        elif amounts_as_strings and member.name in AMOUNTS:
            value += "::text"
        columns.append(f'{value} as "{member.name}"')
    written = "row_to_json(o)"
    if any(member.optional for member in shape):
        written = f"json_strip_nulls({written})"
    return f"(select {written} from (select {', '.join(columns)}) as o)"


def prefers_strings(request: Request) -> bool:
    """Return whether the client prefers amounts as strings (RFC 7240)."""
    given = request.headers.getall("prefer", ())
    return bool(given) and prefers(given, "amounts", "string")


def render(
    route: Route, request: Request, parameters: Mapping[str, str | None], row: list[bytes | None], strings: bool
) -> Response:
    """Return the response to a call that succeeded."""
    answer, identifier, entry, replayed = (*row, None, None, None)[:4]
    pairs = [("Idempotency-Replayed", "true")] if replayed == b"t" else []
    if route.answer is None:
        return Response(b"", route.status, pairs)
    body = answer if route.many and answer else b'{"data":' + (answer or b"null")
    tail = b"}"
    if route.has_amounts:
        pairs.append(("Vary", "Prefer"))
        if strings:
            pairs.append(("Preference-Applied", "amounts=string"))
    if route.feed or (route.many and identifier is not None):
        following = f"{request.path}?{urlencode(next_page(route, request, parameters, identifier))}"
        pairs.append(("Link", f'<{following}>; rel="next"'))
        tail = b',"next":' + json.dumps(following).encode() + b"}"
    if route.location and identifier is not None:
        parts = request.match_info | {route.key: identifier.decode()}
        pairs.append(("Location", route.location.replace("<", "{").replace(">", "}").format(**parts)))
    if route.entry and entry is not None:
        pairs.append(("Ledger-Entry", entry.decode()))
    return Response(body, route.status, pairs, "application/json", tail)


def next_page(
    route: Route, request: Request, parameters: Mapping[str, str | None], identifier: bytes | None
) -> dict[str, str]:
    """Return the query of the next page: the same one, from the last row on."""
    query = {name: values[0] for name, values in request.get_args(keep_blank_values=True).items()}
    if identifier is not None:
        query["before" if parameters.get("newest_first") == "true" else "after"] = identifier.decode()
    return query | {"limit": parameters["max_rows"] or str(MAX_LIMIT)}
