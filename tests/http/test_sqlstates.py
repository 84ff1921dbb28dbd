"""The answer to each class of PostgreSQL's errors, for a shared call, a single call and reads."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql
from pytest_postgresql.executors import NoopExecutor

from tests.conftest import Server, janitor
from tests.http.client import Service, problem, serving
from tests.support import create, join, one

UNAVAILABLE = (
    "25006",
    "53000",
    "53100",
    "53200",
    "53300",
    "53400",
    "57P01",
    "57P02",
    "57P03",
    "58000",
    "58030",
    "58P01",
)
BUSY = ("40001", "40P01", "55P03", "57014", "72000")
UNKNOWN = ("08000", "08003", "08006", "08P01", "40003")
INTERNAL = (
    *("0A000", "21000", "22012", "22P02", "23505", "25P02", "26000", "2D000", "40002", "42501", "42P01", "54000"),
    *("55000", "F0000", "HV000", "P0001", "P0004", "XX000", "XX001", "XX002"),
)

FUNCTIONS = (
    *("create_group", "transfer_batch", "transfer"),
    *("get_group", "get_participants", "get_participant", "read_feed"),
)


@pytest.fixture(scope="module")
def service(server: Server, template: NoopExecutor) -> Iterator[Service]:
    with janitor(server, "ledger_states", template.template_dbname):
        database = server.database("ledger_states")
        with database.connect(database.admin) as admin:
            # A sequence also counts attempts that are rolled back.
            admin.execute("create sequence public.attempts")
            admin.execute("grant usage on sequence public.attempts to public")
            group = create(admin, "ETH")
            assert (group, join(admin, group, "alice"), join(admin, group, "bob")) == (1, 1, 2)
        with serving(database) as service:
            yield service


@pytest.fixture
def admin(service: Service) -> Iterator[psycopg.Connection]:
    with service.database.connect(service.database.admin) as admin:
        yield admin


def fail_with(admin: psycopg.Connection, state: str) -> None:
    """Have the functions do nothing but count the attempt and fail."""
    for function in FUNCTIONS:
        arguments, result = one(
            admin,
            "select pg_get_function_arguments(oid), pg_get_function_result(oid) from pg_proc where oid = %s::regproc",
            [f"ledger.{function}"],
        )
        body = f"begin perform nextval('public.attempts'); raise exception 'secret' using errcode = '{state}'; end"
        admin.execute(
            sql.SQL("create or replace function {}({}) returns {} language plpgsql as {}").format(
                sql.Identifier("ledger", function), sql.SQL(arguments), sql.SQL(result), sql.Literal(body)
            )
        )
    admin.execute("alter sequence public.attempts restart")


def attempts(admin: psycopg.Connection) -> int:
    return one(admin, "select nextval('public.attempts')")[0] - 1


WRITES = {
    "lone": ("POST", "/api/groups", {"name": "BTC"}),
    "shared": ("POST", "/api/groups/1/transfer", {"from": 1, "to": 2, "amount": 1}),
}
READS = {
    "lone": ("GET", "/api/groups/1"),
    "shared": ("GET", "/api/groups/1/participants/1"),
    "feed": ("GET", "/api/entries"),
}


@pytest.mark.parametrize("state", [*UNAVAILABLE, *BUSY])
def test_an_error_that_undid_the_call_may_be_repeated_later(
    service: Service, admin: psycopg.Connection, state: str
) -> None:
    fail_with(admin, state)
    code = "busy" if state in BUSY else "unavailable"
    for request in (*WRITES.values(), *READS.values()):
        answer = service(*request)
        assert problem(answer, 503, code)["sqlstate"] == state
        assert int(answer.headers["Retry-After"]) > 0
        assert b"secret" not in answer.body


@pytest.mark.parametrize("state", UNKNOWN)
@pytest.mark.parametrize("request_", WRITES.values(), ids=WRITES)
def test_a_write_on_a_lost_connection_is_an_unknown_outcome_and_not_repeated(
    service: Service, admin: psycopg.Connection, state: str, request_: tuple
) -> None:
    fail_with(admin, state)
    answer = service(*request_)
    assert problem(answer, 504, "outcome_unknown")["sqlstate"] == state
    assert "Retry-After" not in answer.headers
    assert attempts(admin) == 1


@pytest.mark.parametrize("state", UNKNOWN)
@pytest.mark.parametrize(("request_", "most"), [*zip(READS.values(), (2, 3, 2), strict=True)], ids=READS)
def test_a_read_on_a_lost_connection_is_repeated(
    service: Service, admin: psycopg.Connection, state: str, request_: tuple, most: int
) -> None:
    fail_with(admin, state)
    answer = service(*request_)
    assert problem(answer, 503, "unavailable")["sqlstate"] == state
    assert int(answer.headers["Retry-After"]) > 0
    assert attempts(admin) == most  # a shared read is repeated alone, and that once more


@pytest.mark.parametrize("state", INTERNAL)
def test_a_permanent_error_is_an_internal_error(service: Service, admin: psycopg.Connection, state: str) -> None:
    fail_with(admin, state)
    for request in (*WRITES.values(), *READS.values()):
        answer = service(*request)
        assert "sqlstate" not in problem(answer, 500, "internal_error")
        assert b"secret" not in answer.body
