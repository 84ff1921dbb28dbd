"""The service's real answers match the description, for every route and every refusal that a test can cause."""

import json

import pytest

from api.openapi.examples import EXAMPLES
from api.problems import PROBLEMS
from api.routes import LIVE, METRICS, ROUTES
from tests.conftest import janitor
from tests.http.client import Service, serving
from tests.openapi.answers import check, validator
from tests.openapi.completeness import operations
from tests.support import one

STRINGS = {"Prefer": "amounts=string"}

ADDRESS = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"


class Checked:
    """A service whose answers are checked against the description; `seen` has each operation and status."""

    def __init__(self, service: Service, document: dict) -> None:
        self.service = service
        self.document = document
        self.seen: set[str] = set()
        self.codes: set[str] = set()

    def __call__(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None):
        answer = self.service(method, path, body, headers)
        self.seen.add(check(self.document, method, path, answer))
        if answer.headers["Content-Type"] == "application/problem+json" and method != "HEAD":
            self.codes.add(answer.json["code"])
        return answer


@pytest.fixture
def api(database, described):
    with serving(database) as service:
        yield Checked(service, described)


@pytest.fixture(scope="module")
def lasting(server, template, described):
    """A service that several tests ask, with an empty group."""
    with (
        janitor(server, "ledger_answers", template.template_dbname),
        serving(server.database("ledger_answers")) as service,
    ):
        service("POST", "/api/groups", {"name": "ETH"})
        yield Checked(service, described)


def tell_story(api) -> None:
    """Send every request that alice and bob can make, in the order of the examples."""
    health, groups = "/api/health", "/api/groups"
    path = f"{groups}/1"
    for name in ("ETH", "BTC"):
        api("POST", groups, {"name": name})
    for username in ("alice", "bob"):
        body = {"username": username, "amount": 100, "group_id": "1", "metadata": {"transaction": "0x1a"}}
        for _ in range(2):
            joined = api("POST", f"{path}/participants", body, {"Idempotency-Key": username})
        assert joined.headers["Idempotency-Replayed"] == "true"
    move = {"from": 2, "to": "1", "amount": "50", "metadata": {"order": 17}}
    api("POST", f"{path}/transfer", move)
    api("POST", f"{path}/transfer", move | {"amount": 10**60}, STRINGS)
    api("POST", f"{path}/transfers", {"transfers": [move | {"amount": 1, "metadata": None}] * 2}, STRINGS)
    api("PUT", path, {"name": "ETH"})
    api("PATCH", path, {"group": {"name": "ETH"}})
    api("PATCH", f"{path}/participants/1", {"update_params": {"username": "alice", "group_id": 1}})
    api("PUT", f"{path}/participants/1", {"username": "alice"}, STRINGS)
    api("POST", f"{path}/entries/3/reversal", {"metadata": {"ticket": 4}})
    api("DELETE", f"{path}/participants/1", None, STRINGS)
    api("POST", f"{path}/entries/7/settlement", {"reference": "0x5f"})
    deposit = {"amount": "0x19", "metadata": {"transaction": "0x1c"}}
    api("POST", f"{path}/participants/2/deposits", deposit)
    api("POST", f"{path}/participants/2/deposits", deposit, STRINGS)
    api("GET", f"{path}/participants/2/address")
    for _ in range(2):
        api("PUT", f"{path}/participants/2/address", {"address": ADDRESS}, {"Idempotency-Key": "address"})
    for _ in range(2):
        api("POST", f"{path}/checkpoints", None, {"Idempotency-Key": "checkpoint"} | STRINGS)
    api("POST", f"{path}/checkpoints", {})
    for query in ("", "?limit=1", "?order=desc&limit=2", "?kind=exit&settled=true", "?metadata=%7B%22order%22:17%7D"):
        for headers in ({}, STRINGS):
            api("GET", f"{path}/entries{query}", None, headers)
    reads = [
        health,
        LIVE,
        METRICS,
        groups,
        f"{groups}?limit=1",
        path,
        f"{path}/total",
        f"{path}/total?at=3",
        f"{path}/participants",
    ]
    reads += [
        f"{path}/participants/2",
        f"{path}/participants/2?at=2026-01-01T00:00:00Z",
        f"{path}/participants/2/entries",
        f"{path}/participants/2/entries?kind=deposit",
        f"{path}/participants/2/address",
        f"{path}/participants/2/statement?limit=2",
        f"{path}/participants/2/statement?from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
    ]
    reads += [
        f"{path}/entries/3",
        f"{path}/entries/7",
        f"{path}/entries",
        "/api/entries?limit=2",
        "/api/entries?wait=1",
        "/api/entries/end",
    ]
    reads += [
        f"{path}/checkpoints",
        f"{path}/checkpoints?limit=1",
        f"{path}/checkpoints/1",
        f"{path}/checkpoints/1/leaves",
        f"{path}/checkpoints/1/leaves?limit=1",
        f"{path}/checkpoints/1/proofs/2",
    ]
    for read in reads:
        for method in ("GET", "HEAD"):
            for media_type in ("text/csv", "application/x-ndjson"):
                api(method, read, None, {"Accept": media_type})
            api(method, read)
            api(method, read, None, STRINGS)
        api("OPTIONS", read)
    for each in ("transfer", "transfers", "participants/2/deposits", "entries/3/reversal", "entries/3/settlement"):
        api("OPTIONS", f"{path}/{each}")
    api("DELETE", f"{path}/participants/2", {"metadata": {}})
    api("DELETE", path)
    listed = f"/api/groups/{api('POST', '/api/groups', {'name': 'Lists'}).data['id']}/joins"
    api("POST", listed, {"participants": [{"username": "carol", "amount": 1}]}, STRINGS)
    api("OPTIONS", listed)


def test_every_operation_answers_as_it_is_described(api, described):
    tell_story(api)
    answers = {
        f"{operation['operationId']} {next(iter(operation['responses']))}" for _, _, operation in operations(described)
    }
    assert answers - api.seen == set()


def test_every_refusal_of_a_rule_and_of_a_bad_request_is_described(api):
    path, lines = "/api/groups/1", "/api/groups/1/transfers"
    for name in ("ETH", "BTC"):
        api("POST", "/api/groups", {"name": name})
    for username in ("alice", "bob"):
        api("POST", f"{path}/participants", {"username": username, "amount": 100})
    for body in ("[]", b"\xff", '{"name": 1}', "{}", '{"name": "ETH"}', '{"name": "x", "y": 1}'):
        api("POST", "/api/groups", body)
        api("PATCH", path, body)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        target = {"POST": f"{path}/participants", "DELETE": f"{path}/participants/1"}.get(method, path)
        api(method, target, b"{}", {"Content-Type": "text/plain"})
        api(method, target, b'{"name": "' + b"x" * (1 << 20) + b'"}')
    for move in (
        {"from": 1, "to": 2, "amount": 500},
        {"from": 1, "to": 1, "amount": 0},
        {"from": 1, "to": 9, "amount": 1},
    ):
        api("POST", f"{path}/transfer", move)
        api("POST", lines, {"transfers": [move]})
    api("PUT", f"{path}/participants/1", {"username": "bob"})
    api("PUT", f"{path}/participants/1", {"username": "carol", "amount": 5})
    api("DELETE", path)
    for body in ({"name": "one"}, {"name": "two"}):
        api("POST", "/api/groups", body, {"Idempotency-Key": "same"})
    api("POST", f"{path}/transfer", {"from": 1, "to": 2, "amount": 5})
    for _ in range(2):
        api("POST", f"{path}/entries/3/reversal")
    api("POST", f"{path}/entries/1/reversal")
    api("DELETE", f"{path}/participants/1")
    for reference in ("0x1", "0x2"):
        api("POST", f"{path}/entries/5/settlement", {"reference": reference})
    for address in (ADDRESS, "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "0x1"):
        api("PUT", f"{path}/participants/2/address", {"address": address})
    for amount in (0, 2**256 - 1):
        api("POST", f"{path}/participants/2/deposits", {"amount": amount})
    api("POST", f"{path}/participants", {"username": "dave", "amount": str(2**256 - 1)})
    api("POST", f"{path}/checkpoints")
    api("GET", "/api/entries?after=9-1-1")
    for read in (
        "/api/groups/7",
        "/api/groups/x",
        f"{path}/participants/9",
        f"{path}/entries/9",
        f"{path}/checkpoints/9",
        "/api/groups?limit=0",
    ):
        for method in ("GET", "HEAD"):
            api(method, read)
    api("POST", "/api/groups", {"name": "x"}, {"Expect": "the unexpected"})
    api("GET", "/api/groups", None, {"X-Large": "x" * 20_000})
    for method, target in (("POST", "/api/groups"), ("PATCH", path), ("DELETE", f"{path}/participants/1")):
        api(method, target, {"name": "DAI"}, {"Content-Encoding": "gzip"})
    for path in ("/api/groups", METRICS):
        api("GET", path, None, {"Origin": "https://elsewhere.example"})
    name = {"name": "linked"}
    linked = f"/api/groups/{api('POST', '/api/groups', name).data['id']}"
    with api.service.database.connect(api.service.database.admin) as admin:
        group = linked.rpartition("/")[2]
        admin.execute("select ledger.link_vault(%s, 1, %s)", [group, ADDRESS])
        member = {"username": "alice", "amount": 0, "address": ADDRESS}
        for body in (member, member | {"amount": 5}):
            api("POST", f"{linked}/participants", body)
        api("POST", f"{linked}/checkpoints")
        admin.execute("select ledger.prepare_publication(%s)", [group])
        assert api("GET", f"{linked}/checkpoints").data[0]["state"] == "prepared"
        admin.execute("select ledger.record_emergency(%s, 0, %s, 5)", [group, "0x" + "ab" * 32])
        api("POST", f"{linked}/participants", member)
    with api.service.database.connect(api.service.database.admin) as admin:
        (secret,) = one(admin, "select secret from ledger.create_api_key('shop', 'read')")
    for authorization in (f"Bearer {secret}", f"Bearer {secret}0"):
        api("POST", "/api/groups", {"name": "DAI"}, {"Authorization": authorization})
    # These need a database that fails, a request that is no HTTP, or half a minute.
    # And no route calls a function of the bridge.
    elsewhere = {
        "vault_mismatch",
        "busy",
        "unavailable",
        "outcome_unknown",
        "internal_error",
        "bad_request",
        "request_timeout",
    }
    assert set(PROBLEMS) - api.codes == elsewhere | {"method_not_allowed"}


def test_a_wrong_method_and_malformed_http_are_refused_as_described(api, described):
    for answer in (api.service("POST", "/api/health"), api.service("TRACE", "/api/groups")):
        validator(described, {"$ref": "#/components/schemas/MethodNotAllowed"}).validate(answer.json)
    refused = api.service.raw(b"nonsense\r\n\r\n").partition(b"\r\n\r\n")[2]
    validator(described, {"$ref": "#/components/schemas/BadRequest"}).validate(json.loads(refused))


def test_a_service_without_its_database_answers_as_described(api, database):
    api("GET", "/api/groups")
    with database.connect(database.admin) as admin:
        name = admin.info.dbname
    with database.connect(database.admin, dbname="postgres") as admin:
        admin.execute(f'alter database "{name}" allow_connections false')
        try:
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            for method, path in (("GET", "/api/groups/1"), ("HEAD", "/api/groups/1"), ("DELETE", "/api/groups/1")):
                assert api(method, path).status == 503
        finally:
            admin.execute(f'alter database "{name}" allow_connections true')


# Valid and invalid values: the service and the description accept the same ones. A line's end after
# the digits is missing: Python's `$` lets it through, that of ECMA-262, which JSON Schema means, does not.
AMOUNTS = [
    "0",
    "1",
    '"0"',
    '"00050"',
    str(2**256 - 1),
    f'"{2**256 - 1}"',
    "-1",
    '"-1"',
    "1.5",
    "true",
    "null",
    '""',
    '" 1"',
]
AMOUNTS += ['"1e3"', '"+1"', '"0x10"', '"1_000"', '"٣"', "[]", "{}", str(2**256), str(10**78), f'"{10**78}"', '"1\\n2"']
IDS = ["1", '"1"', '"001"', "0", '"0"', "-1", "null", '""', "1.5", "true", str(2**63 - 1), f'"{2**63 - 1}"', str(2**63)]
IDS += [f'"{10**19}"', "[1]"]
NAMES = [
    "",
    " ",
    "\u00a0\u2003",
    "x",
    "é" * 255,
    "x" * 256,
    "🚀" * 255,
    "🚀" * 256,
    "a\x00b",
    "a\x07b",
    "a\x85b",
    "a\nb",
    "\ta",
]
NAMES += ["\ufeff", "\u200b", " x ", "\u3000\u3000", "a\u2028b"]


def refused(api, schema: dict, method: str, path: str, body: str) -> tuple[bool, bool]:
    """Return whether the service refuses a body, and whether the schema does."""
    answer = api.service(method, path, body)
    # A transfer that is well said may be refused since the two are not there.
    assert answer.status in (200, 201, 403, 404, 422), answer
    says = answer.status == 422 and answer.json["code"] == "invalid_value"
    return says, not validator(api.document, schema).is_valid(json.loads(body))


@pytest.fixture
def schema_of(described):
    return lambda path: described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


@pytest.mark.parametrize("field", ["from", "to", "amount", "deposit", "name"])
def test_the_service_and_the_description_refuse_the_same_values(lasting, schema_of, field):
    transfer, join, create = "/api/groups/{group_id}/transfer", "/api/groups/{group_id}/participants", "/api/groups"
    differences = []
    values = {"amount": AMOUNTS, "deposit": AMOUNTS, "name": [json.dumps(name) for name in NAMES]}.get(field, IDS)
    for number, value in enumerate(values):
        if field == "name":
            path, template, body = create, create, f'{{"name": {value}}}'
        elif field == "deposit":
            path, template = "/api/groups/1/participants", join
            body = f'{{"username": "u{number}", "amount": {value}}}'
        else:
            path, template = "/api/groups/1/transfer", transfer
            members = {"from": "7", "to": "8", "amount": "1"} | {field: value}
            body = "{" + ", ".join(f'"{name}": {member}' for name, member in members.items()) + "}"
        service, description = refused(lasting, schema_of(template), "POST", path, body)
        if service != description:
            differences.append((value, service))
    assert differences == []


def test_the_examples_of_bodies_are_taken(api, described):
    """No example is refused as malformed; another test sends them in an order in which they succeed."""
    for route in ROUTES:
        example = EXAMPLES[route.function]
        if example.body is None:
            continue
        path = route.path.replace("<group_id>", "1").replace("<id>", str(example.id))
        for method in route.methods:
            for body in (example.body, *([{route.wrapper: example.body}] if route.wrapper else [])):
                answer = api(method, path, body)
                assert answer.status < 400 or answer.json["code"] in ("not_found", "already_taken"), answer
