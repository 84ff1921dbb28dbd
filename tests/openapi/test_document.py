"""The description is valid OpenAPI 3.1 and complete, and its examples match its schemas."""

from dataclasses import replace

import psycopg
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.openapi.document import comment, encoded, published
from api.problems import PROBLEMS
from api.resources import OPENAPI
from api.routes import AT, GROUP, IDEMPOTENCY_KEY, METADATA, ROUTES, Route, columns, text
from tests.openapi.answers import validator
from tests.openapi.completeness import as_template, codes, find_differences, operations, raised


def test_it_is_valid_openapi(described):
    assert list(OpenAPIV31SpecValidator(described).iter_errors()) == []


def test_it_is_complete(described):
    assert find_differences(described, ROUTES, PROBLEMS) == []


def routes_with(function: str, **changes: object) -> tuple[Route, ...]:
    """The table of routes with one of them changed."""
    assert any(route.function == function for route in ROUTES)
    return tuple(replace(route, **changes) if route.function == function else route for route in ROUTES)


ARGUMENTS = {route.function: route.arguments for route in ROUTES}
CHANGES = {
    "a route more": (*ROUTES, Route("read", ("GET",), "/api/new", "new", (), GROUP)),
    "a route less": ROUTES[:-1],
    "another scope": routes_with("get_group", scope="admin"),
    "an open route": routes_with("get_group", scope="open"),
    "a method more": routes_with("create_group", methods=("POST", "PUT")),
    "a method less": routes_with("rename_group", methods=("PUT",)),
    "another path": routes_with("transfer", path="/api/groups/<group_id>/move"),
    "a parameter of the query more": routes_with("get_group", arguments=(*ARGUMENTS["get_group"], *AT)),
    "a parameter of the query less": routes_with("list_groups", arguments=ARGUMENTS["list_groups"][:1]),
    "another kind of parameter": routes_with("get_participant", arguments=ARGUMENTS["get_participant"][:-1]),
    "no key": routes_with("remove_group", arguments=ARGUMENTS["remove_group"][:-1]),
    "a key": routes_with("get_group", arguments=(*ARGUMENTS["get_group"], IDEMPOTENCY_KEY)),
    "a member of the body more": routes_with("create_group", arguments=(*ARGUMENTS["create_group"], text("owner"))),
    "an optional member more": routes_with("create_group", arguments=(*ARGUMENTS["create_group"], METADATA)),
    "a member of the body less": routes_with("join_group", arguments=ARGUMENTS["join_group"][:-1]),
    "a member that must be given": routes_with(
        "exit_group", arguments=(*ARGUMENTS["exit_group"][:-1], replace(METADATA, optional=False))
    ),
    "another wrapper": routes_with("rename_group", wrapper="update_params"),
    "no wrapper": routes_with("rename_group", wrapper=None),
    "no echo": routes_with("join_group", echoes=None),
    "another status": routes_with("create_group", status=200),
    "another answer": routes_with("get_group", answer=columns("name", "id", "created_at")),
    "another order of members": routes_with("get_group", answer=columns("id", "name")),
    "no answer": routes_with("get_group", answer=None),
    "no list": routes_with("list_groups", many=False),
    "a format more": routes_with("get_statement", formats=("text/csv", "application/x-ndjson")),
    "a format less": routes_with("list_entries", formats=("text/csv",)),
    "no pages": routes_with("get_statement", cursor=None),
    "a feed": routes_with("list_groups", feed=True),
    "no location": routes_with("create_group", location=None),
    "an entry": routes_with("create_group", entry="entry_id"),
}


@pytest.mark.parametrize("routes", CHANGES.values(), ids=CHANGES)
def test_a_changed_table_of_routes_is_a_difference(described, routes):
    assert find_differences(described, routes, PROBLEMS)


@pytest.mark.parametrize(
    "problems",
    [
        PROBLEMS | {"teapot": (418, "Teapot")},
        {code: problem for code, problem in PROBLEMS.items() if code != "busy"},
        PROBLEMS | {"busy": (500, "Busy")},
        PROBLEMS | {"busy": (503, "Very busy")},
    ],
    ids=["one more", "one less", "another status", "another title"],
)
def test_changed_problems_are_a_difference(described, problems):
    assert find_differences(described, ROUTES, problems)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.function)
def test_an_operation_has_the_comment_and_the_codes_of_its_function(owner: psycopg.Connection, described, route):
    query = "select obj_description(%s::regproc, 'pg_proc')"
    (comment_text,) = owner.execute(query, [f"ledger.{route.function}"]).fetchone()
    assert published()[route.function] == comment_text
    path = as_template(route.path)
    for method in route.methods:
        operation = described["paths"][path][method.lower()]
        summary, description = comment(route)
        assert operation["summary"] == summary
        assert operation["description"].startswith(description)
        assert raised(comment_text) <= codes(described, path, method.lower())


def test_operation_ids_are_unique(described):
    names = [operation["operationId"] for _, _, operation in operations(described)]
    assert len(names) == len(set(names)) > 20


def examples(document: dict) -> list:
    """Each example, by its place, with the schema that it belongs to."""
    found = []
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        for parameter in [*document["paths"][path]["parameters"], *operation["parameters"]]:
            schema = (parameter["content"]["application/json"] if "content" in parameter else parameter)["schema"]
            (example,) = schema.get("examples") or [parameter["example"]]
            found.append((f"{where} {parameter['name']}", schema, example))
        contents = {"body": operation.get("requestBody", {}).get("content", {})}
        contents |= {status: answer.get("content", {}) for status, answer in operation["responses"].items()}
        for place, content in contents.items():
            for media_type, media in content.items():
                assert media["examples"], f"{where} {place} {media_type}"
                for name, example in media["examples"].items():
                    found.append((f"{where} {place} {name}", media["schema"], example["value"]))
    return found


def test_every_example_matches_its_schema(described):
    found = examples(described)
    assert len(found) > 500
    errors = [
        (where, error.message)
        for where, schema, example in found
        for error in validator(described, schema).iter_errors(example)
    ]
    assert errors == []


def test_each_code_has_its_own_example(described):
    for path, method, operation in operations(described):
        given = {
            example["value"]["code"]
            for answer in operation["responses"].values()
            for example in answer.get("content", {}).get("application/problem+json", {}).get("examples", {}).values()
        }
        assert given == codes(described, path, method)


def test_every_schema_is_a_schema_and_refuses_something(described):
    for name, schema in described["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert not validator(described, schema).is_valid(None), name


def test_the_committed_document_equals_the_generated_one():
    """`make openapi` writes it."""
    assert OPENAPI.read_bytes() == encoded()
