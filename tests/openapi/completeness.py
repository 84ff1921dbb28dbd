"""The differences of a description from the table of routes and the problems.

It is read here as a client reads it, without the code that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from api.problems import SQLSTATES
from api.routes import LIVE, METRICS, Route, Shape

# The service's own paths, and the media types of their answers.
OWN = {LIVE: "application/json", METRICS: "text/plain"}


def find_differences(document: dict, routes: Iterable[Route], problems: Mapping[str, tuple[int, str]]) -> list[str]:
    """Each difference, in words; none for a description that is complete."""
    routes = list(routes)
    described = {(method, path) for path, method, _ in operations(document)}
    expected = {(method.lower(), as_template(route.path)) for route in routes for method in route.methods}
    expected |= {("get", path) for path in OWN}
    differences = [f"operations: {sorted(described ^ expected)}"] if described != expected else []
    for method, path in described & expected:
        operation = document["paths"][path][method]
        if path in OWN:
            differences += [f"{method} {path}: {difference}" for difference in differences_of_own(operation, path)]
            continue
        (route,) = (route for route in routes if as_template(route.path) == path and method.upper() in route.methods)
        differences += [
            f"{method} {path}: {difference}"
            for difference in differences_of(document, operation, route, method, problems)
        ]
    text = document["info"]["description"]
    differences += [f"{method} is not described" for method in ("HEAD", "OPTIONS") if method not in text]
    names = {path: [parameter["name"] for parameter in item["parameters"]] for path, item in document["paths"].items()}
    differences += [f"{path}: takes {its}" for path, its in names.items() if its != ["X-Request-ID"]]
    schemas = document["components"]["schemas"].values()
    listed = {
        properties["code"]["const"]: (properties["status"]["const"], properties["title"]["const"])
        for properties in (schema.get("properties", {}) for schema in schemas)
        if "code" in properties
    }
    if listed != dict(problems):
        differences.append(f"problems: {sorted(set(listed.items()) ^ set(problems.items()))}")
    given = {
        code
        for path, method in ((path, method) for method, path in described)
        for code in codes(document, path, method)
    }
    # A method that is described is never the wrong one, and the bridge calls no route.
    if given != set(problems) - {"method_not_allowed", "vault_mismatch"}:
        differences.append(f"problems that no operation gives, or that are none: {sorted(given ^ set(problems))}")
    return differences


def operations(document: dict) -> Iterator[tuple[str, str, dict]]:
    """The path, the method and the description of each operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def differences_of_own(operation: dict, path: str) -> Iterator[str]:
    if operation.get("security") != []:
        yield "asks for a key"
    answer = operation["responses"]["200"]
    if list(answer["headers"]) != ["X-Request-ID"]:
        yield f"headers {list(answer['headers'])}"
    if list(answer.get("content", {})) != [OWN[path]]:
        yield f"content {list(answer.get('content', {}))}"


def differences_of(
    document: dict, operation: dict, route: Route, method: str, problems: Mapping[str, tuple[int, str]]
) -> Iterator[str]:
    if operation.get("security", document["security"]) != ([] if route.scope == "open" else [{"key": []}]):
        yield "whether it asks for a key"
    if route.scope != "open" and f"scope `{route.scope}`" not in operation["description"]:
        yield "the scope of its key"
    described = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}
    expected = {(argument.source, argument.name) for argument in route.arguments if argument.source != "body"}
    expected |= {("query", "wait")} if route.waits else set()
    expected |= {("header", "Prefer")} if route.has_amounts else set()
    if described != expected:
        yield f"parameters {sorted(described ^ expected)}"
    if any(parameter.get("required", False) != (parameter["in"] == "path") for parameter in operation["parameters"]):
        yield "parameters of the path, and no others, are required"
    for parameter in operation["parameters"]:
        kinds = {argument.kind for argument in route.arguments if argument.name == parameter["name"]}
        schema = parameter.get("schema") or parameter["content"]["application/json"]["schema"]
        if kinds and {shown(document, one) for one in schema.get("anyOf", [schema])} != {TYPES[kind] for kind in kinds}:
            yield f"{parameter['name']} is {schema}"

    body = operation.get("requestBody")
    if (body is not None) != bool(route.body):
        yield "the body"
    elif body:
        yield from differences_of_body(document, body, route)

    answer = operation["responses"].get(str(route.status))
    if answer is None:
        yield f"no answer {route.status}"
        return
    headers = set(answer.get("headers", {}))
    expected = {
        "X-Request-ID": True,
        "Location": route.location,
        "Ledger-Entry": route.entry,
        "Link": route.has_pages,
        "Vary": route.has_amounts,
        "Preference-Applied": route.has_amounts,
        "Idempotency-Replayed": route.takes_idempotency_key,
    }
    if headers != {name for name, present in expected.items() if present}:
        yield f"headers {headers}"
    content = answer.get("content", {})
    if (list(content) or None) != (["application/json", *route.formats] if route.answer else None):
        yield f"content {list(content)}"
    elif route.answer:
        schema = follow(document, content["application/json"]["schema"])
        if list(schema["properties"]) != (["data", "next"] if route.has_pages else ["data"]):
            yield "members beside data"
        data = follow(document, schema["properties"]["data"])
        for media_type in route.formats:
            if content[media_type]["schema"]["type"] != "string":
                yield f"{media_type} is no text"
        shapes = [route.answer, *([route.minimal.answer] if route.minimal else [])]
        found = data.get("anyOf", [data]) if route.minimal else [data["items"] if route.many else data]
        if len(found) != len(shapes):
            yield f"{len(found)} answers"
        for each, shape in zip(found, shapes, strict=False):
            yield from differences_of_shape(document, each, shape)

    refused = {status for status in operation["responses"] if status != str(route.status)}
    given = codes(document, as_template(route.path), method)
    if refused != {str(problems[code][0]) for code in given if code in problems}:
        yield f"statuses {refused} for {given}"
    if missing := required_codes(route) - given:
        yield f"no {missing}"


def differences_of_body(document: dict, body: dict, route: Route) -> Iterator[str]:
    if body["required"] != any(not argument.optional for argument in route.body):
        yield "whether the body is required"
    (media_type,) = body["content"]
    if media_type != "application/json":
        yield f"the body is {media_type}"
    schema = follow(document, body["content"][media_type]["schema"])
    plain, *wrapped = schema.get("oneOf", [schema])
    if [list(each["properties"]) for each in wrapped] != ([[route.wrapper]] if route.wrapper else []):
        yield "the wrapper"
    names = [argument.name for argument in route.body] + ([route.echoes] if route.echoes else [])
    for each in (plain, *(inner for wrap in wrapped for inner in wrap["properties"].values())):
        if list(each["properties"]) != names or each["additionalProperties"] is not False:
            yield f"the body's members are {list(each['properties'])}"
        if each["required"] != [argument.name for argument in route.body if not argument.optional]:
            yield f"the body's required members are {each['required']}"


def differences_of_shape(document: dict, schema: dict, shape: Shape) -> Iterator[str]:
    schema = follow(document, schema)
    names = [member.name for member in shape]
    properties = schema.get("properties", {})
    required = [member.name for member in shape if not member.optional]
    if list(properties) != names or schema["required"] != required:
        yield f"the answer's members are {list(properties)}"
        return
    if schema["additionalProperties"] is not False:
        yield "the answer has members of any name"
    for member in shape:
        if member.members:
            one = properties[member.name]
            yield from differences_of_shape(document, one["items"] if member.is_list else one, member.members)


def required_codes(route: Route) -> set[str]:
    """Return the codes that a route must have because of its arguments."""
    codes = {"bad_request", "internal_error", "unavailable", "outcome_unknown", "body_too_large"}
    codes |= {"unauthorized", "forbidden", "foreign_origin"} if route.scope != "open" else set()
    codes |= {"not_found"} if route.parts else set()
    codes |= {"invalid_json", "unsupported_media_type", "invalid_value"} if route.body else set()
    codes |= {"invalid_value"} if route.query else set()
    codes |= {"idempotency_key_reused", "busy"} if route.takes_idempotency_key else set()
    return codes


def codes(document: dict, path: str, method: str) -> set[str]:
    """The codes that an operation may be refused with."""
    operation = document["paths"][path][method]
    contents = [answer.get("content", {}) for answer in operation["responses"].values()]
    schemas = [
        content["application/problem+json"]["schema"] for content in contents if "application/problem+json" in content
    ]
    return {
        follow(document, one)["properties"]["code"]["const"]
        for schema in schemas
        for one in schema.get("oneOf", [schema])
    }


# How a parameter of each kind is described, in short.
TYPES = {
    "id": "integer from 1",
    "after": "integer from 0",
    "limit": "integer from 1 to 1000",
    "text": "string",
    "idempotency_key": "string",
    "time": "date-time",
    "boolean": "boolean",
    "order": "string",
    "json": "object",
}


def shown(document: dict, schema: dict) -> str:
    schema = follow(document, schema)
    if schema["type"] != "integer":
        return schema.get("format", schema["type"])
    return f"integer from {schema['minimum']}" + (f" to {schema['maximum']}" if schema["maximum"] < 2**62 else "")


def follow(document: dict, schema: dict) -> dict:
    while "$ref" in schema:
        found = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def raised(comment: str) -> set[str]:
    """The codes of the SQLSTATEs that a function's comment names."""
    return {SQLSTATES[state] for state in re.findall("LG[0-9]{3}", comment.rpartition("Raises")[2])}


def as_template(path: str) -> str:
    return path.replace("<", "{").replace(">", "}")
