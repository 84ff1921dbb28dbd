"""Make the OpenAPI document of the HTTP surface (OpenAPI Specification 3.1).

It is made of the table of routes, the problems, and the comments in the functions' files. `make openapi` writes it to
api/openapi.json, which the service serves.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from itertools import groupby

from api.http.formats import CONTENT_TYPES
from api.openapi import examples, schemas
from api.openapi.schemas import Schema
from api.problems import PROBLEMS, RETRY_AFTER, SQLSTATES
from api.resources import RESOURCES
from api.routes import CSV, HEALTH, IDEMPOTENCY_KEY, LIVE, METRICS, MIB, NDJSON, ROUTES, Argument, Route

JSON = "application/json"
PROBLEM = "application/problem+json"

ABOUT = """\
A **group** is one off-chain ledger. A **participant** joins it with a deposit and leaves it with a final amount. An
**entry** is one row of the permanent record: a join, a deposit, a transfer or an exit.

**Amounts** are whole numbers from 0 to 2^256 - 1. A request gives one as a JSON integer, spelled in digits alone, as a
string of digits, or as a hex quantity (`"0x1f"`); an answer is a JSON integer, exact to the last digit.
`Prefer: amounts=string` asks for strings, for clients whose parser makes floats of large integers.

**Lists** come in pages: where there is more, `Link` and `next` say where it goes on.

**Files.** Where `text/csv` (RFC 4180) or `application/x-ndjson` is listed, `Accept` asks for it. Without a `limit` the
answer is the whole list: read it to its end, since an answer that is cut off lacks its last chunk.

**Safe retries.** What changes something takes an `Idempotency-Key`. A request that is repeated with its key is done
once, and answered as it was.

**Refusals** have one shape (RFC 9457). `errors` maps each field to blame to its messages, all of them at once, or is
`{"detail": "<title>"}`. 401, `forbidden` and `foreign_origin` come first, then 400, 422, 404, and the other 403 and
409. Unknown members of a body and unknown parameters of a query are refused. A method that a path does not have is
refused with 405 (`method_not_allowed`), and `Allow` names those that it has.

**HEAD and OPTIONS** are not repeated for each path. Each path with GET has HEAD, which is answered as GET is, without
the content. Each path has OPTIONS: its answer is 204, and `Allow` names the methods of the path. It needs no API key.

**No answer is stored** (`Cache-Control: no-store`). Every answer has `Date` and `X-Content-Type-Options: nosniff`.
"""

KEY_SCHEME = "key"
KEYS = "An API key, as `ledger key create` prints it. A service that has none yet may be open without one."

# The codes of Sanic's own refusals, and those of any call.
EVERYWHERE = frozenset(
    {"bad_request", "request_timeout", "body_too_large", "expectation_failed", "header_too_large", "internal_error"}
)
ANY_CALL = EVERYWHERE | {"unavailable", "outcome_unknown"}

REASONS = {200: "OK", 201: "Created", 204: "No content"}

# Swagger UI sends the example of a parameter where nothing else is typed, but not those of a parameter's schema. So the
# examples of what may be left away are in their schemas. Not this one: JavaScript rounds what it shows otherwise.
PREFER: Schema = {
    "name": "Prefer",
    "in": "header",
    "description": "`amounts=string` asks for amounts as strings of digits (RFC 7240).",
    "schema": {"type": "string"},
    "example": examples.PARAMETERS["Prefer"],
}
PREFER_MINIMAL: Schema = PREFER | {
    "description": "`amounts=string` asks for amounts as strings of digits, `return=minimal` for the first and the last"
    " entry that were written and their number instead of the lines (RFC 7240).",
}

REQUEST_ID: Schema = {
    "name": "X-Request-ID",
    "in": "header",
    "description": "The request's name in the log and the answer: 1 to 64 letters, digits, or any of `._-`.",
    "schema": {"type": "string", "examples": [examples.PARAMETERS["X-Request-ID"]]},
}

QUERY: dict[str, str] = {
    "after": "Rows after this id, the last one seen.",
    "at": "The state at a time (RFC 3339), or after the entry with this id.",
    "before": "Entries before the one with this id.",
    "from": "The period's beginning (RFC 3339), which belongs to it; that of the record if there is none.",
    "kind": "Entries of this kind.",
    "limit": "The greatest number of rows in a page.",
    "metadata": "Entries whose metadata contain this JSON object.",
    "name": "The group with this name, if there is one.",
    "order": "By time: the oldest or the newest first.",
    "settled": "Exits that are settled (true), or not yet (false).",
    "since": "From this time on (RFC 3339).",
    "to": "The period's end (RFC 3339), which does not belong to it; now if there is none.",
    "username": "The participant present with this username, if there is one.",
    "until": "Before this time (RFC 3339).",
}
CURSOR = "Entries after this cursor, which is part of `next`."
WAIT: Schema = {
    "name": "wait",
    "in": "query",
    "description": "Seconds to wait for something new.",
    "schema": {**schemas.WAIT, "examples": [10]},
}

HEADERS: dict[str, Schema] = {
    "X-Request-ID": {
        "description": "The request's own, if it is 1 to 64 letters, digits, or any of `._-`; otherwise a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "WWW-Authenticate": {
        "description": "How a request must authenticate (RFC 6750).",
        "schema": {"type": "string", "pattern": "^Bearer "},
    },
    "Ledger-Entry": {"description": "The entry that was written.", "required": True, "schema": schemas.ID},
    "Vary": {
        "description": "The header of the request that the answer depends on.",
        "required": True,
        "schema": {"type": "string", "const": "Prefer"},
    },
    "Preference-Applied": {
        "description": "Present when amounts are strings, as the request preferred (RFC 7240).",
        "schema": {"type": "string", "const": "amounts=string"},
    },
    "Idempotency-Replayed": {
        "description": "Present when an earlier request with the same idempotency key made the change.",
        "schema": {"type": "string", "const": "true"},
    },
    "Accept": {
        "description": "The media type that a body must have.",
        "required": True,
        "schema": {"type": "string", "const": JSON},
    },
    "Accept-Encoding": {
        "description": "Present where the body has a Content-Encoding.",
        "schema": {"type": "string", "const": "identity"},
    },
    "Accept-Patch": {
        "description": "The media type that a body must have (RFC 5789).",
        "required": True,
        "schema": {"type": "string", "const": JSON},
    },
}

MINIMAL_APPLIED: Schema = {
    "description": "The preference of the request that was applied (RFC 7240).",
    "schema": {"type": "string", "enum": ["amounts=string", "return=minimal"]},
}
VARY_WITH_FORMATS: Schema = {
    "description": "The headers of the request that the answer depends on.",
    "required": True,
    "schema": {"type": "string", "const": "Accept, Prefer"},
}

# The paths that call no function, except this document's: the operation's id, its summary, and its answer.
OWN: dict[str, tuple[str, str, str, Schema, object]] = {
    LIVE: (
        "live",
        "Whether the process answers, which does not need the database.",
        JSON,
        schemas.members({"data": schemas.answer(HEALTH)}, ["data"]),
        {"data": {"status": "ok"}},
    ),
    METRICS: (
        "metrics",
        "The service's metrics, for Prometheus on this machine, or on any machine if the service is set up so.",
        "text/plain",
        {"type": "string"},
        "ledger_requests_in_flight 2.0\n",
    ),
}


def encoded() -> bytes:
    """Return the document as the JSON text of api/openapi.json."""
    return f"{json.dumps(document(), ensure_ascii=False, indent=1)}\n".encode()


def document() -> Schema:
    """Return the document of the whole HTTP surface."""
    names = {name: schemas.object_of(shape) for shape, name in schemas.NAMES.items()}
    problems = {schema_name(code): schemas.problem(code) for code in PROBLEMS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ledger",
            "summary": "A RESTful ledger service that can transact with multiple participants.",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
            "version": version("ledger"),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(map(tag, [*(route.path for route in ROUTES), *OWN]))],
        "paths": {template(path): path_item(list(routes)) for path, routes in groupby(ROUTES, lambda route: route.path)}
        | {path: own_path_item(path) for path in OWN},
        "security": [{KEY_SCHEME: []}],
        "components": {
            "securitySchemes": {KEY_SCHEME: {"type": "http", "scheme": "bearer", "description": KEYS}},
            "schemas": schemas.SHARED | names | problems,
        },
    }


def path_item(routes: list[Route]) -> Schema:
    """Return the operations of one path: those of its routes."""
    operations = {method.lower(): operation(route, method) for route in routes for method in route.methods}
    return {"parameters": [REQUEST_ID], **operations}


def own_path_item(path: str) -> Schema:
    """Return the operation of a path that calls no function."""
    name, summary, media_type, schema, example = OWN[path]
    success: Schema = {"description": REASONS[200], "headers": {"X-Request-ID": HEADERS["X-Request-ID"]}}
    content = {media_type: {"schema": schema, "examples": {"example": {"value": example}}}}
    codes = EVERYWHERE | ({"not_found", "foreign_origin"} if path == METRICS else set())
    get: Schema = {"operationId": name, "tags": [tag(path)], "summary": summary, "security": [], "parameters": []}
    answers: dict[str, Schema] = {"200": success | {"content": content}}
    return {
        "parameters": [REQUEST_ID],
        "get": get | {"responses": answers | refusals(in_order(codes), None, "GET")},
    }


def operation(route: Route, method: str) -> Schema:
    """Return one operation of a route."""
    summary, description = comment(route)
    described: Schema = {
        "operationId": route.function if method == route.methods[0] else f"{route.function}_{method.lower()}",
        "tags": [tag(route.path)],
        "summary": summary,
        "description": description,
        "parameters": parameters(route),
    }
    if route.scope == "open":
        described["security"] = []
    else:
        described["description"] = f"{description} Needs an API key of scope `{route.scope}`."
    if route.body:
        described["requestBody"] = request_body(route)
    answers: dict[str, Schema] = {str(route.status): success_answer(route)} | refusals(codes_of(route), route, method)
    return described | {"responses": answers}


def parameters(route: Route) -> list[Schema]:
    """Return the parameters of a route. Two arguments with one name are one parameter, whose value fits one of them."""
    described = []
    for (source, name), group in groupby(route.arguments, lambda argument: (argument.source, argument.name)):
        arguments = list(group)
        if source == "path":
            number = examples.EXAMPLES[route.function].id if name == "id" else 1
            described.append(
                {"name": name, "in": "path", "required": True, "schema": schemas.ref("Id"), "example": number}
            )
        elif source == "query":
            described.append(query_parameter(route, name, arguments))
    if route.waits:
        described.append(WAIT)
    if route.takes_idempotency_key:
        described.append(
            {
                "name": IDEMPOTENCY_KEY.name,
                "in": "header",
                "description": "Chosen by the client: a request that is repeated with its key is done once.",
                "schema": {**schemas.IDEMPOTENCY_KEY, "examples": [f"{route.function}-{examples.UUID}"]},
            }
        )
    if route.has_amounts:
        described.append(PREFER_MINIMAL if route.minimal else PREFER)
    return described


def query_parameter(route: Route, name: str, arguments: list[Argument]) -> Schema:
    found = [schemas.queried(route, argument) for argument in arguments]
    cursor = route.feed and name == "after"
    example = examples.CURSOR if cursor else examples.PARAMETERS[name]
    schema = {**({"anyOf": found} if len(found) > 1 else found[0]), "examples": [example]}
    parameter: Schema = {"name": name, "in": "query", "description": CURSOR if cursor else QUERY[name]}
    if arguments[0].kind == "json":
        return parameter | {"content": {JSON: {"schema": schema}}}
    return parameter | {"schema": schema}


def request_body(route: Route) -> Schema:
    example = examples.EXAMPLES[route.function].body
    assert example is not None
    given = {"example": {"value": example}}
    if route.wrapper:
        given["wrapped"] = {"value": {route.wrapper: example}}
    return {
        "description": f"At most {route.body_limit // MIB} MiB.",
        "required": route.needs_body,
        "content": {JSON: {"schema": schemas.body(route), "examples": given}},
    }


def success_answer(route: Route) -> Schema:
    example = examples.EXAMPLES[route.function]
    answer: Schema = {"description": REASONS[route.status], "headers": success_headers(route)}
    if route.answer is None:
        return answer
    data = schemas.answer(route.answer)
    empty = {"maxItems": 0} if route.end_of else {}
    properties: Schema = {"data": {"type": "array", "items": data, **empty} if route.many else data}
    body: Schema = {"data": example.data}
    if route.has_pages:
        properties["next"] = {"type": "string", "format": "uri-reference", "description": "The path of the next page."}
        body["next"] = example.next
    given: Schema = {"example": {"value": body}}
    if route.has_amounts:
        given["amounts=string"] = {"value": examples.as_strings(body)}
    if route.minimal and route.minimal.answer:
        properties["data"] = {"anyOf": [data, schemas.answer(route.minimal.answer)]}
        given["return=minimal"] = {"value": {"data": example.minimal}}
    schema = schemas.members(properties, ["data", "next"] if route.feed else ["data"])
    files = {media_type: file_of(media_type, route) for media_type in route.formats}
    return answer | {"content": {JSON: {"schema": schema, "examples": given}, **files}}


def file_of(media_type: str, route: Route) -> Schema:
    """Return the content of an answer that is a whole list."""
    names = ",".join(member.name for member in route.rows)
    described = {
        CSV: {
            "type": "string",
            "pattern": f"^{names}\r\n",
            "description": f"As `{CONTENT_TYPES[CSV]}`. Text is quoted; where it begins as a formula does, or with an"
            " apostrophe, it has an apostrophe in front.",
        },
        NDJSON: {"type": "string", "description": "A line of JSON for each row."},
    }
    return {"schema": described[media_type], "examples": {"example": {"value": examples.file(media_type, route)}}}


def success_headers(route: Route) -> Schema:
    headers: Schema = {"X-Request-ID": HEADERS["X-Request-ID"]}
    if route.location:
        place = {"type": "string", "pattern": "^" + re.sub("<[a-z_]+>", "[0-9]+", route.location) + "$"}
        headers["Location"] = {"description": "The path of what was created.", "required": True, "schema": place}
    if route.entry:
        headers["Ledger-Entry"] = HEADERS["Ledger-Entry"]
    if route.has_pages:
        following = {"type": "string", "pattern": '^<[^<>]+>; rel="next"$'}
        headers["Link"] = {
            "description": "The path of the next page (RFC 8288).",
            "required": route.feed,
            "schema": following,
        }
    if route.has_amounts:
        headers |= {name: HEADERS[name] for name in ("Vary", "Preference-Applied")}
    if route.minimal:
        headers["Preference-Applied"] = MINIMAL_APPLIED
    if route.formats:
        headers["Vary"] = VARY_WITH_FORMATS
    if route.takes_idempotency_key:
        headers["Idempotency-Replayed"] = HEADERS["Idempotency-Replayed"]
    return headers


def refusals(codes: list[str], route: Route | None, method: str) -> dict[str, Schema]:
    """Return the answers of all statuses that the codes, in order, have."""
    return {
        str(status): refusal(list(of_status), route, method)
        for status, of_status in groupby(codes, lambda code: PROBLEMS[code][0])
    }


def refusal(codes: list[str], route: Route | None, method: str) -> Schema:
    """Return the answer of one status: one of the problems that have it."""
    headers: Schema = {"X-Request-ID": HEADERS["X-Request-ID"]}
    words = " or ".join(f"`{code}`: {PROBLEMS[code][1]}" for code in codes)
    answer: Schema = {"description": words, "headers": headers}
    retry = sorted({int(RETRY_AFTER[code]) for code in codes if code in RETRY_AFTER})
    if retry:
        seconds = {"description": "Seconds to wait.", "required": True, "schema": {"type": "integer", "enum": retry}}
        headers["Retry-After"] = seconds
    if "unsupported_media_type" in codes:
        name = "Accept-Patch" if method == "PATCH" else "Accept"
        headers |= {name: HEADERS[name], "Accept-Encoding": HEADERS["Accept-Encoding"]}
    if {"unauthorized", "forbidden"} & {*codes}:
        headers["WWW-Authenticate"] = HEADERS["WWW-Authenticate"] | {"required": codes == ["unauthorized"]}
    found = [schemas.ref(schema_name(code)) for code in codes]
    given = {code: {"value": json.loads(examples.refusal(code, route).body())} for code in codes}
    return answer | {
        "content": {PROBLEM: {"schema": {"oneOf": found} if len(found) > 1 else found[0], "examples": given}}
    }


def codes_of(route: Route) -> list[str]:
    """Return the codes of the problems that a call of the route may get."""
    codes = ANY_CALL | {SQLSTATES[state] for state in raised(route)}
    if route.scope != "open":
        codes |= {"unauthorized", "forbidden", "foreign_origin"}
    if route.function != "health":
        codes |= {"busy", "invalid_value"}
    if route.parts:
        codes |= {"not_found"}
    if route.body:
        codes |= {"invalid_json", "unsupported_media_type"}
    return in_order(codes)


def in_order(codes: Iterable[str]) -> list[str]:
    return sorted(codes, key=[*PROBLEMS].index)


@cache
def published() -> dict[str, str]:
    """Return the comment of each function, by its name."""
    texts = [file.read_text() for file in sorted((RESOURCES / "db" / "functions").rglob("*.sql"))]
    found = [re.findall(r"^comment on function ledger\.(\w+) is\s+'((?:[^']|'')*)';", text, re.M) for text in texts]
    return {name: words.replace("''", "'") for pairs in found for name, words in pairs}


def raised(route: Route) -> list[str]:
    """Return the SQLSTATEs that a route's function raises, as its comment lists them."""
    return re.findall("LG[0-9]{3}", published()[route.function].rpartition("Raises")[2])


def comment(route: Route) -> tuple[str, str]:
    """Return a function's comment with HTTP's names: its first sentence, and all of it without its SQLSTATEs."""
    names = {argument.parameter: argument.name for argument in route.arguments if argument.source == "query"}
    names |= {"entry_id": "`Ledger-Entry`", "replayed": "`Idempotency-Replayed`"}
    words = re.sub(r" *Raises [LG0-9, ]+\.$", "", published()[route.function])
    words = re.sub(r"\b\w+\b", lambda word: names.get(word[0], word[0]), words)
    return re.split(r"(?<=\.) |[,;:] ", words)[0].rstrip(".") + ".", words


def schema_name(code: str) -> str:
    return code.title().replace("_", "")


def template(path: str) -> str:
    return path.replace("<", "{").replace(">", "}")


def tag(path: str) -> str:
    """Return the chapter that a path belongs to."""
    parts = [part for part in path.split("/") if not part.startswith("<")]
    return CHAPTERS.get(parts[-1], parts[-1])


CHAPTERS = {
    "transfer": "transfers",
    "joins": "participants",
    "total": "groups",
    "deposits": "participants",
    "address": "participants",
    "statement": "participants",
    "reversal": "entries",
    "settlement": "entries",
    "leaves": "checkpoints",
    "proofs": "checkpoints",
    "live": "health",
}
