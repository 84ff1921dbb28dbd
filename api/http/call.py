"""Make the response to a route's function call from its row, in the same way for every route."""

import json
from collections.abc import Mapping
from urllib.parse import urlencode

from sanic import Request

from api.http.preferences import prefers
from api.http.responses import Response
from api.http.values import MAX_LIMIT
from api.routes import Route


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
    if route.feed or (route.has_pages and identifier is not None):
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
