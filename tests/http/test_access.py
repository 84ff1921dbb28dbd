"""API keys over HTTP: which requests they admit, and for how long."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pytest_postgresql.executors import NoopExecutor

from api.http.auth import API_KEY_CACHE_SECONDS
from api.routes import ROUTES, Route
from tests.conftest import Server, janitor
from tests.http.client import Answer, Service, problem, serving
from tests.support import Database, call, create, join, one, until


@pytest.fixture(scope="module")
def locked(server: Server, template: NoopExecutor) -> Iterator[Service]:
    """A service that requires API keys."""
    with janitor(server, "ledger_locked", template.template_dbname):
        database = server.database("ledger_locked")
        key(database, "admin")
        with serving(database) as service:
            yield service


def key(database: Database, scope: str, group: int | None = None) -> str:
    """Create an API key and return its secret."""
    with database.connect(database.admin) as admin:
        return one(admin, "select secret from ledger.create_api_key('shop', %s, %s)", [scope, group])[0]


def revoke(database: Database, secret: str) -> None:
    with database.connect(database.admin) as admin:
        call(admin, "revoke_api_key", int(secret.split("_")[1]))


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def ask(service: Service, route: Route, group: int, member: int, headers: dict[str, str]) -> Answer:
    """Send a request that is refused after authentication, so that nothing is changed."""
    path = route.path.replace("<group_id>", str(group))
    path = path.replace("<id>", str(group if route.parts and route.parts[0].name == "id" else member))
    return service(route.methods[0], path, None if route.reads else {"no such member": 1}, headers)


def refused(answer: Answer) -> bool:
    return answer.status in (401, 403)


KEYED = [route for route in ROUTES if route.scope != "open"]
names = [route.function for route in KEYED]


@pytest.fixture
def group(locked: Service) -> tuple[int, int]:
    with locked.database.connect(locked.database.admin) as admin:
        group = create(admin, f"group {time.monotonic_ns()}")
        return group, join(admin, group, "alice")


@pytest.mark.parametrize("route", KEYED, ids=names)
def test_every_route_requires_an_api_key(locked: Service, group: tuple[int, int], route: Route) -> None:
    answer = ask(locked, route, *group, {})
    problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="ledger"'


def test_health_requires_no_api_key(locked: Service) -> None:
    assert locked("GET", "/api/health").status == 200
    assert locked("GET", "/api/health", headers=bearer("nonsense")).status == 200


LEAST = {
    **dict.fromkeys(["create_group", "rename_group", "remove_group"], "admin"),
    **dict.fromkeys(["join_group", "rename_participant", "exit_group", "transfer", "transfer_all"], "transact"),
    **dict.fromkeys(["reverse_transfer", "settle_exit", "deposit", "bind_address", "join_all"], "transact"),
    **dict.fromkeys(["list_groups", "get_group", "group_total", "list_participants", "get_participant"], "read"),
    "checkpoint": "transact",
    **dict.fromkeys(["list_checkpoints", "get_checkpoint", "list_leaves", "get_proof"], "read"),
    **dict.fromkeys(["list_entries", "list_participant_entries", "get_entry", "read_feed", "get_address"], "read"),
    **dict.fromkeys(["get_statement", "feed_end"], "read"),
}


@pytest.mark.parametrize("scope", ["read", "transact", "admin"])
@pytest.mark.parametrize("route", KEYED, ids=names)
def test_an_api_key_is_valid_for_its_scope_and_lower_ones(
    locked: Service, group: tuple[int, int], route: Route, scope: str
) -> None:
    answer = ask(locked, route, *group, bearer(key(locked.database, scope)))
    order = ["read", "transact", "admin"]
    if order.index(scope) >= order.index(LEAST[route.function]):
        assert not refused(answer), answer.body
    else:
        assert LEAST[route.function] in problem(answer, 403, "forbidden")["detail"]
        assert "insufficient_scope" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("route", KEYED, ids=names)
def test_an_api_key_for_one_group_is_valid_for_no_other(locked: Service, group: tuple[int, int], route: Route) -> None:
    number, member = group
    secret = bearer(key(locked.database, "admin", number))
    with locked.database.connect(locked.database.admin) as admin:
        other = create(admin, f"group {time.monotonic_ns()}")
    problem(ask(locked, route, other, member, secret), 403, "forbidden")
    own = ask(locked, route, number, member, secret)
    # It does not give access to routes of no group or of all groups.
    assert refused(own) == (route.function in ("list_groups", "create_group", "read_feed", "feed_end")), own.body


def test_an_api_key_for_one_group_is_not_shown_the_id_of_another(locked: Service, group: tuple[int, int]) -> None:
    name = f"group {time.monotonic_ns()}"
    with locked.database.connect(locked.database.admin) as admin:
        other = create(admin, name)
    for of, detail in ((group[0], "name is taken"), (None, f'name "{name}" is taken by group {other}')):
        secret = bearer(key(locked.database, "admin", of))
        answer = locked("PATCH", f"/api/groups/{group[0]}", {"name": name}, headers=secret)
        assert problem(answer, 422, "already_taken")["detail"] == detail


def test_an_api_key_for_one_group_finds_its_participants_by_username(locked: Service, group: tuple[int, int]) -> None:
    secret = bearer(key(locked.database, "read", group[0]))
    answer = locked("GET", f"/api/groups/{group[0]}/participants?username=nobody", headers=secret)
    assert answer.json == {"data": []}
    problem(locked("GET", "/api/groups?name=ETH", headers=secret), 403, "forbidden")


@pytest.mark.parametrize("spelling", ["0{}", "{}%20", "+{}", "{}.0", " {}", "{}/../{}"])
def test_another_spelling_of_an_id_gives_no_access_to_other_groups(
    locked: Service, group: tuple[int, int], spelling: str
) -> None:
    with locked.database.connect(locked.database.admin) as admin:
        other = create(admin, f"group {time.monotonic_ns()}")
    secret = bearer(key(locked.database, "admin", group[0]))
    path = f"/api/groups/{spelling.format(other, group[0])}/participants".replace(" ", "%20")
    assert locked("GET", path, headers=secret).status in (403, 404)


GOOD = "ledger_1_" + "0" * 64
FORMS = {
    "empty": "",
    "no scheme": GOOD,
    "another scheme": f"Basic {GOOD}",
    "no secret": "Bearer",
    "not of ours": "Bearer abc",
    "an unknown key": "Bearer ledger_4611686018427387904_" + "0" * 64,
    "a wrong secret": f"Bearer {GOOD}",
    "too large a number": f"Bearer ledger_{'9' * 30}_" + "0" * 64,
    "a zero": "Bearer ledger_0_" + "0" * 64,
    "capitals": f"Bearer {GOOD.upper()}",
    "more behind it": f"Bearer {GOOD}0",
    "quotes": "Bearer ledger_1_' or true --" + "0" * 43,
    "long": "Bearer " + "x" * 8000,
}


@pytest.mark.parametrize("header", FORMS.values(), ids=FORMS)
def test_refuses_a_malformed_api_key(locked: Service, header: str) -> None:
    answer = locked("GET", "/api/groups", headers={"Authorization": header})
    problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="ledger", error="invalid_token"'


def test_refuses_two_api_keys_at_once(locked: Service) -> None:
    secret = key(locked.database, "admin")
    header = f"Authorization: Bearer {secret}\r\n"
    sent = f"GET /api/groups HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{header * 2}\r\n"
    assert locked.raw(sent.encode()).startswith(b"HTTP/1.1 401 ")


def test_the_scheme_may_be_spelled_in_any_case(locked: Service) -> None:
    secret = key(locked.database, "read")
    assert locked("GET", "/api/groups", headers={"Authorization": f"bEARER  {secret}"}).status == 200


def test_the_api_key_is_checked_before_the_body(locked: Service, group: tuple[int, int]) -> None:
    answer = locked("POST", f"/api/groups/{group[0]}/transfer", "{not json", {})
    problem(answer, 401, "unauthorized")


def test_a_refused_transfer_moves_nothing(locked: Service, group: tuple[int, int]) -> None:
    number, alice = group
    with locked.database.connect(locked.database.admin) as admin:
        bob = join(admin, number, "bob")
    body = {"from": alice, "to": bob, "amount": 1}
    for headers in ({}, bearer(key(locked.database, "read")), bearer(GOOD)):
        assert refused(locked("POST", f"/api/groups/{number}/transfer", body, headers))
    secret = bearer(key(locked.database, "transact", number))
    assert locked("POST", f"/api/groups/{number}/transfer", body, secret).status == 200
    with locked.database.connect(locked.database.admin) as admin:
        assert (
            one(admin, "select count(*) from ledger.entries where kind = 'transfer' and group_id = %s", [number])[0]
            == 1
        )


def test_a_revoked_api_key_is_refused_in_time(locked: Service) -> None:
    secret = key(locked.database, "read")
    assert locked("GET", "/api/groups", headers=bearer(secret)).status == 200
    revoke(locked.database, secret)
    began = time.monotonic()
    until(lambda: locked("GET", "/api/groups", headers=bearer(secret)).status == 401, "the key to be refused", 60)
    assert time.monotonic() - began < API_KEY_CACHE_SECONDS + 3  # the promise, and the delay of a busy machine


def test_a_long_poll_ends_when_its_api_key_is_revoked(locked: Service) -> None:
    secret = key(locked.database, "read")
    answer = locked("GET", "/api/entries", headers=bearer(secret))
    while answer.data:
        answer = locked("GET", answer.json["next"], headers=bearer(secret))
    with ThreadPoolExecutor() as threads:
        poll = threads.submit(locked, "GET", answer.json["next"] + "&wait=30", headers=bearer(secret))
        revoke(locked.database, secret)
        problem(poll.result(), 401, "unauthorized")


def test_many_requests_share_one_look_up_of_their_api_key(locked: Service) -> None:
    secret = bearer(key(locked.database, "read"))
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: locked("GET", "/api/groups", headers=secret).status, range(64)))
    assert answers == [200] * 64


def test_an_api_key_is_required_as_soon_as_one_exists(database: Database) -> None:
    with serving(database) as service:
        assert service("GET", "/api/groups").status == 200
        secret = key(database, "read")
        until(lambda: service("GET", "/api/groups").status == 401, "a key to be asked for", 60)
        assert service("GET", "/api/groups", headers=bearer(secret)).status == 200
        revoke(database, secret)
        assert service("GET", "/api/groups").status == 401


def test_neither_the_secret_nor_its_digest_is_shown_to_other_sessions(locked: Service) -> None:
    secret = key(locked.database, "read")
    assert locked("GET", "/api/groups", headers=bearer(secret)).status == 200
    with locked.database.connect(locked.database.admin) as admin:
        queries = [row[0] for row in admin.execute("select query from pg_stat_activity where query <> ''")]
    assert any("authenticate" in query for query in queries)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    assert not any(secret in query or digest in query for query in queries)
