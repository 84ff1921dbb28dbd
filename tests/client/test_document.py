"""The client has every operation, parameter and problem of the OpenAPI document, and reads every example in it."""

import dataclasses
import inspect
import json
import re
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

import ledger_client
from api.problems import PROBLEMS
from api.resources import OPENAPI
from ledger_client import AsyncClient, Client, answers, calls
from ledger_client.calls import MEDIA_TYPES
from ledger_client.errors import Problem
from ledger_client.exchange import Answer, Done, Settings, exchange
from tests.openapi.completeness import operations

DOCUMENT = json.loads(OPENAPI.read_bytes())
# PUT and PATCH are one operation.
OPERATIONS = {
    operation["operationId"]: (path, method, operation)
    for path, method, operation in operations(DOCUMENT)
    if method != "patch"
}
# Those whose answer may be a file, by the method that reads it as one.
DOWNLOADS = {
    f"download_{name.partition('_')[2]}": name
    for name, (_, _, operation) in OPERATIONS.items()
    if "text/csv" in operation["responses"].get("200", {}).get("content", {})
}
NOW = datetime(2026, 11, 30, tzinfo=UTC)
# A value for each parameter of the functions.
VALUES: dict[str, Any] = {
    "address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "after": 4,
    "amount": 2**256 - 1,
    "at": NOW,
    "before": 9,
    "entry_id": 3,
    "from_id": 5,
    "group_id": 1,
    "idempotency_key": "the-key",
    "kind": "exit",
    "limit": 10,
    "metadata": {"order": 17},
    "name": "ETH",
    "number": 6,
    "order": "desc",
    "page_size": 10,
    "participant_id": 2,
    "participants": [calls.JoinLine("alice", 2**256 - 1, "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", {"order": 17})],
    "reference": "0x5f",
    "settled": False,
    "since": NOW,
    "to_id": 7,
    "transfers": [calls.TransferLine(5, 7, 2**256 - 1, {"order": 17})],
    "until": NOW,
    "username": "alice",
    "wait": 30,
}
# What has a method of its own for an answer that the client prefers.
MINIMAL = {"join_all_minimal": "join_all", "transfer_all_minimal": "transfer_all"}
# Members of bodies that say nothing more: a path's parameter again.
REPEATED = {"group_id"}


def resolved(schema: dict) -> dict:
    return DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def body_members(operation: dict) -> set[str]:
    if "requestBody" not in operation:
        return set()
    schema = resolved(operation["requestBody"]["content"]["application/json"]["schema"])
    return set(schema.get("oneOf", [schema])[0]["properties"]) - REPEATED  # the second is the same in a wrapper


def made(name: str) -> tuple[calls.Call, httpx.Request]:
    """The call of an operation with a value for each of its parameters, and its request."""
    build = getattr(calls, name)
    values = VALUES | ({"after": "1-742-3"} if name == "read_feed" else {})
    call = build(**{parameter: values[parameter] for parameter in inspect.signature(build).parameters})
    with httpx.Client(base_url="http://ledger.test") as http:
        request = next(exchange(call, Settings(30.0, 0, lambda: "the-request"), http.build_request))
    assert isinstance(request, httpx.Request)
    return call, request


def test_each_operation_has_a_method():
    built = {
        name
        for name, function in inspect.getmembers(calls, inspect.isfunction)
        if function.__module__ == calls.__name__
        and str(function.__annotations__["return"]).startswith("Call[")
        and name not in ("get", "page", "pieces", "write", "minimal", "next_page")
    }
    assert built == set(OPERATIONS) | set(DOWNLOADS) | set(MINIMAL)
    for client in (Client, AsyncClient):
        assert built <= {name for name, _ in inspect.getmembers(client, inspect.isfunction)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_parameter_can_be_sent(name):
    path, method, operation = OPERATIONS[name]
    _, request = made(name)
    assert request.method == method.upper()
    assert re.fullmatch(re.sub(r"{\w+}", "[0-9]+", path), request.url.path)
    given = {("query", each) for each in request.url.params} | {("header", each) for each in request.headers}
    parameters = [*operation.get("parameters", []), *DOCUMENT["paths"][path]["parameters"]]
    described = {
        (each["in"], each["name"].lower() if each["in"] == "header" else each["name"])
        for each in parameters
        if each["in"] != "path"
    }
    assert described <= given
    assert {each for kind, each in given if kind == "query"} <= {each for _, each in described}
    assert set(json.loads(request.content or "{}")) == body_members(operation)


@pytest.mark.parametrize(("download", "name"), DOWNLOADS.items())
def test_a_file_has_the_parameters_and_the_formats_of_its_list(download, name):
    _, _, operation = OPERATIONS[name]
    formats = set(operation["responses"]["200"]["content"]) - {"application/json"}
    parameters = set(inspect.signature(getattr(calls, download)).parameters)
    if formats == {"text/csv"}:
        assert "file_format" not in parameters
    else:
        assert formats == set(MEDIA_TYPES.values())
        parameters.remove("file_format")
    # One of a username is no list; and a statement's pages are one statement.
    assert set(inspect.signature(getattr(calls, name)).parameters) - parameters <= {"username", "after"}
    assert ("after" in parameters) == (name != "get_statement")


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_answer_is_read_whole(name):
    _, _, operation = OPERATIONS[name]
    call, request = made(name)
    status, described = next(each for each in operation["responses"].items() if each[0].startswith("2"))
    if "application/json" not in described.get("content", {}):
        return
    content = described["content"]["application/json"]
    examples = [each["value"] for preference, each in content["examples"].items() if preference != "return=minimal"]
    assert examples
    for example in examples:
        with httpx.Client(base_url="http://ledger.test") as http:
            steps = exchange(call, Settings(30.0, 0, None), http.build_request)
            next(steps)
            done = steps.send(httpx.Response(int(status), json=example, request=request))
        assert isinstance(done, Done)


@pytest.mark.parametrize(("name", "operation"), MINIMAL.items())
def test_a_minimal_answer_is_read_from_either_answer(name, operation):
    """A service may disregard the preference."""
    call, request = made(name)
    whole_call, whole_request = made(operation)
    assert request.headers["Prefer"] == "return=minimal"
    assert (call.path, request.content) == (whole_call.path, whole_request.content)
    responses = OPERATIONS[operation][2]["responses"]
    described = next(each for status, each in responses.items() if status.startswith("2"))
    examples = described["content"]["application/json"]["examples"]
    found = [
        call.read(Answer(httpx.Response(200, json=examples[kind]["value"], request=request), "the-key"))
        for kind in ("example", "return=minimal")
    ]
    assert found[0] == found[1] == answers.ListSummary(**examples["return=minimal"]["value"]["data"])


NAMES = {"from": "from_id", "to": "to_id"}


@pytest.mark.parametrize(
    "name",
    ["Group", "Participant", "Entry", "Transfer", "Movement", "ListSummary", "Checkpoint", "Leaf", "Node", "Proof"],
)
def test_each_member_of_an_answer_is_a_field(name):
    members = {NAMES.get(each, each) for each in DOCUMENT["components"]["schemas"][name]["properties"]}
    assert members == {each.name for each in dataclasses.fields(getattr(answers, name))} - {"receipt", "document"}


def test_each_problem_has_an_exception():
    assert set(Problem.BY_CODE) == set(PROBLEMS)
    schemas = DOCUMENT["components"]["schemas"]
    named = {
        schema["properties"]["code"]["const"]: name
        for name, schema in schemas.items()
        if "code" in schema.get("properties", {})
    }
    assert {code: kind.__name__ for code, kind in Problem.BY_CODE.items()} == named
    assert all(getattr(ledger_client, name) is Problem.BY_CODE[code] for code, name in named.items())
    assert set(named.values()) < set(ledger_client.__all__)


def test_both_clients_have_the_same_methods():
    def signatures(client: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(function).replace(return_annotation=None)
            for name, function in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert signatures(Client) == signatures(AsyncClient)
