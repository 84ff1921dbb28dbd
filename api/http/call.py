"""Make the response to a route's function call from its row, in the same way for every route."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import urlencode

from sanic import Request

from api.http.formats import CONTENT_TYPES
from api.http.preferences import prefers
from api.http.responses import Response, StreamedResponse
from api.http.values import MAX_LIMIT
from api.routes import CSV, Route

# The preferences that an answer may have applied (RFC 7240).
STRINGS = "amounts=string"
MINIMAL = "return=minimal"


def preferred(route: Route, request: Request) -> str | None:
    """Return the preference of the client that the answer applies; a minimal answer has no amounts."""
    given = request.headers.getall("prefer", ())
    if not given or not route.has_amounts:
        return None
    if route.minimal and prefers(given, "return", "minimal"):
        return MINIMAL
    return STRINGS if prefers(given, "amounts", "string") else None


def render(
    route: Route, request: Request, parameters: Mapping[str, str | None], row: list[bytes | None], applied: str | None
) -> Response:
    """Return the response to a call that succeeded, with the preference that was applied."""
    answer, identifier, entry, replayed = (*row, None, None, None)[:4]
    pairs = [("Idempotency-Replayed", "true")] if replayed == b"t" else []
    if route.answer is None:
        return Response(b"", route.status, pairs)
    body = answer if route.many and answer else b'{"data":' + (answer or b"null")
    tail = b"}"
    if route.has_amounts:
        pairs.append(("Vary", "Accept, Prefer" if route.formats else "Prefer"))
        if applied:
            pairs.append(("Preference-Applied", applied))
    if route.feed or (route.has_pages and identifier is not None):
        path = route.end_of or request.path
        following = f"{path}?{urlencode(next_page(route, request, parameters, identifier))}"
        pairs.append(("Link", f'<{following}>; rel="next"'))
        tail = b',"next":' + json.dumps(following).encode() + b"}"
    if route.location and identifier is not None:
        parts = request.match_info | {route.key: identifier.decode()}
        pairs.append(("Location", route.location.replace("<", "{").replace(">", "}").format(**parts)))
    if route.entry and entry is not None:
        pairs.append(("Ledger-Entry", entry.decode()))
    return Response(body, route.status, pairs, "application/json", tail)


def render_export(
    route: Route,
    request: Request,
    parameters: Mapping[str, str | None],
    row: list[bytes | None],
    media_type: str,
    applied: str | None,
    pages: Callable[[bytes, bytes], AsyncIterator[bytes]] | None,
) -> Response:
    """Return the response of CSV or NDJSON whose first page was read.

    `pages` continues a page after its last row; without it the response is the page, and names the next one.
    """
    page, last = row[0] or b"", row[1]
    pairs = [("Vary", "Accept, Prefer")]
    if media_type == CSV:
        page = f"{','.join([member.name for member in route.rows])}\r\n".encode() + page
    elif applied:
        pairs.append(("Preference-Applied", applied))
    content_type = CONTENT_TYPES[media_type]
    if last is not None and pages is not None:
        return StreamedResponse(pages(page, last), pairs, content_type)
    if last is not None:
        following = f"{request.path}?{urlencode(next_page(route, request, parameters, last))}"
        pairs.append(("Link", f'<{following}>; rel="next"'))
    return Response(page, route.status, pairs, content_type)


def cursor_of(parameters: Mapping[str, str | None]) -> str:
    """Return the parameter of a list that takes the last row of the page before."""
    return "before" if parameters.get("newest_first") == "true" else "after"


def next_page(
    route: Route, request: Request, parameters: Mapping[str, str | None], identifier: bytes | None
) -> dict[str, str]:
    """Return the query of the next page: the same one, from the last row on."""
    query = {name: values[0] for name, values in request.get_args(keep_blank_values=True).items()}
    if identifier is not None:
        query[cursor_of(parameters)] = identifier.decode()
    return query | {"limit": parameters.get("max_rows") or str(MAX_LIMIT)}
