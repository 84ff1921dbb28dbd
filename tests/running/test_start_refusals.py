"""`ledger serve` refuses to start with a clear message."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from api import cli
from api.postgres import embedded, sessions
from api.postgres.preflight import StartError, check_at_start
from api.settings import conninfo_error
from tests.conftest import VERSION, Server
from tests.running.commands import LEDGER, Service, environment, free_port, refusal, serving
from tests.support import Database

LOGIN = "ledger_test_login"


@pytest.fixture
def make_login(server: Server, database: Database) -> Iterator[Callable[..., str]]:
    """Make a role by these statements and return its connection string; the role is dropped in the end."""
    with (
        embedded.running(server.data, VERSION, roles=[LOGIN]),
        database.connect(database.admin) as admin,
    ):

        def make(*statements: str) -> str:
            for statement in statements:
                admin.execute(statement.format(login=LOGIN, database=admin.info.dbname).encode())
            return database.url(LOGIN)

        yield make
        admin.execute(f"alter database {admin.info.dbname} owner to {database.admin}".encode())
        admin.execute(f"drop owned by {LOGIN}; drop role {LOGIN}".encode())


# The address


def test_names_the_port_that_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # The address comes first: nothing is initialised for a service that cannot listen.
        message = refusal(PORT=str(port), LEDGER_DATA="/dev/null")
    assert f"port {port}" in message
    assert "in use" in message
    assert "--port" in message


@pytest.mark.parametrize("host", ["a..b", f"{'a' * 64}.example"])
def test_refuses_an_invalid_host(host: str) -> None:
    assert "is no name of a host" in refusal("--host", host, "--insecure", LEDGER_DATA="/dev/null")


def test_variables_of_a_kubernetes_service_named_ledger_are_ignored(database: Database) -> None:
    port = free_port()
    url = database.url(database.service)
    with serving(DATABASE_URL=url, LEDGER_PORT="tcp://10.0.0.1:4000", PORT=str(port)) as service:
        assert service.answers()


@pytest.mark.parametrize("port", ["65536", "64000000"])
def test_refuses_a_port_that_does_not_exist(port: str) -> None:
    assert f"{port} is no port" in refusal("--port", port, LEDGER_DATA="/dev/null")
    assert f"{port} is no port" in refusal(PORT=port, LEDGER_DATA="/dev/null")


@pytest.mark.parametrize("option", ["port", "workers"])
@pytest.mark.parametrize("value", ["0", "-1", "abc", "80.0", "٣", "9" * 5000])
def test_refuses_a_setting_that_is_no_number(
    option: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.parser().parse_args(["serve", f"--{option}={value}"])
    assert ended.value.code == 2
    monkeypatch.setenv(option.upper(), value)
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["serve"])
    said = capsys.readouterr().err
    assert said.count(f"argument --{option}: {value!r} is not a positive number") == 2
    assert said.count(f"(from the variable {option.upper()})") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("log", "everything"), ("log", "Requests"), ("metrics", "nobody")),
        *(("drain", "-1"), ("drain", "1.5"), ("drain", "3601"), ("drain", "٣"), ("drain", "9" * 5000)),
    ],
)
def test_refuses_a_setting_that_is_no_choice(
    option: str, value: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["serve", f"--{option}={value}"])
    monkeypatch.setenv(option.upper(), value)
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["serve"])
    said = capsys.readouterr().err
    assert said.count(f"argument --{option}: {value!r} is not ") == 2
    assert said.count(f"(from the variable {option.upper()})") == 1


@pytest.mark.parametrize(
    ("variable", "value"),
    [("HOST", "192.0.2.1"), ("PORT", "abc"), ("WORKERS", "0"), ("LOG", "x"), ("METRICS", "x"), ("DRAIN", "x")],
)
def test_a_variable_with_the_ledger_prefix_overrides_the_bare_one(variable: str, value: str) -> None:
    good = {
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "WORKERS": "1",
        "LOG": "faults",
        "METRICS": "all",
        "DRAIN": "0",
    }
    prefixed = {f"LEDGER_{name}": good[name] for name in good}
    url = {"DATABASE_URL": "mysql://somebody.else", "LEDGER_DATABASE_URL": "postgresql://127.0.0.1:1/x"}
    wait = {"DATABASE_WAIT": "x", "LEDGER_DATABASE_WAIT": "0"}
    # All bare names are another program's, and the service goes as far as to its database.
    bad = {"HOST": "192.0.2.1", "PORT": "abc", "WORKERS": "0", "LOG": "x", "METRICS": "x", "DRAIN": "x"}
    assert "cannot connect to the database at 127.0.0.1" in refusal("serve", **url, **wait, **bad, **prefixed)
    message = refusal(
        "serve", status=1 if variable == "HOST" else 2, **url, **wait, **prefixed | {f"LEDGER_{variable}": value}
    )
    assert f"(from the variable LEDGER_{variable})" in message


def test_names_the_variable_of_a_bad_connection_string_and_port() -> None:
    assert "LEDGER_DATABASE_URL must be" in refusal("serve", PORT=str(free_port()), LEDGER_DATABASE_URL="mysql://x")
    assert "65536 is no port: choose one from 1 to 65535 (from the variable PORT)" in refusal("serve", PORT="65536")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://u:hidden-word@localhost/books?no_such_option=hidden-word", "no_such_option"),
        ("postgresql://localhost/books?sslmod=require", "sslmod"),
        ("postgresql://u:p@ss?hidden_word=x@localhost/books", None),
        ("postgresql://u:pa?hidden_word=x", None),
    ],
)
def test_names_the_connection_parameter_that_is_unknown(url: str, named: str | None) -> None:
    error = conninfo_error(url)
    assert error
    assert (f"does not know: {named}" in error) == (named is not None)
    assert "hidden" not in error


def test_a_usage_error_has_a_message() -> None:
    message = refusal(PORT="abc", LEDGER_DATA="/dev/null", status=2)
    assert "ledger serve: error: argument --port: 'abc' is not a positive number" in message
    assert "invalid choice: 'sevre'" in refusal("sevre", LEDGER_DATA="/dev/null", status=2)


def test_names_a_host_of_another_machine() -> None:
    assert "cannot listen on 192.0.2.1" in refusal(
        "--host", "192.0.2.1", PORT=str(free_port()), LEDGER_DATA="/dev/null"
    )
    assert "no.host.invalid" in refusal("--host", "no.host.invalid", PORT=str(free_port()), LEDGER_DATA="/dev/null")


# The connection


@pytest.mark.parametrize("command", ["serve", "migrate", "seed"])
def test_reports_an_unreachable_database(command: str) -> None:
    port = free_port()
    conninfo = f"postgresql://someone:hidden-word@127.0.0.1:{port}/books"
    message = refusal(command, PORT=str(free_port()), DATABASE_URL=conninfo, DATABASE_WAIT="0")
    assert "127.0.0.1" in message
    assert "refused" in message
    assert "hidden-word" not in message


def test_reports_a_missing_database(database: Database) -> None:
    with database.connect() as connection:
        conninfo = database.url(database.service).replace(connection.info.dbname, "no_such_books")
    message = refusal(PORT=str(free_port()), DATABASE_URL=conninfo + "&password=hidden-word")
    assert 'database "no_such_books" does not exist' in message
    assert "hidden-word" not in message


@pytest.mark.parametrize("variable", ["DATABASE_URL", "LEDGER_ADMIN_URL"])
@pytest.mark.parametrize(
    "value",
    [
        "hidden-word",
        "mysql://u:hidden-word@localhost/books",
        "host=localhost password=hidden-word",
        "postgresql://u:hidden-word%zz@localhost/books",
        "postgresql://u:hidden-word@[::1/books",
        "postgresql://u:hidden-word@[::1]books",
        "postgresql://u:hidden-word and more@localhost/books",
        "postgresql://u@localhost/books?password=hidden-word%zz",
        "postgresql://u@localhost/books?no_such_option=hidden-word",
    ],
)
def test_a_malformed_connection_string_is_named_and_not_shown(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(cli.Refusal, match=f"^{variable} ") as refused, cli.database():
        pass
    assert "hidden-word" not in str(refused.value)


@pytest.mark.parametrize("command", ["serve", "migrate", "psql"])
def test_no_command_shows_a_password(command: str) -> None:
    message = refusal(command, PORT=str(free_port()), DATABASE_URL="postgresql://u:hidden-word%zz@localhost/books")
    assert "DATABASE_URL" in message
    assert "hidden-word" not in message


def test_serves_only_the_database_of_database_url(database: Database) -> None:
    message = refusal(PORT=str(free_port()), LEDGER_ADMIN_URL=database.url(database.admin))
    assert "DATABASE_URL" in message


def test_waits_for_a_database_that_is_away(fresh: Path) -> None:
    port = free_port()
    settings = environment(DATABASE_URL=embedded.url(fresh), PORT=str(port), DATABASE_WAIT="60")
    with subprocess.Popen([LEDGER, "serve", "--insecure"], env=settings, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert "waiting for it for 60 seconds" in process.stderr.readline()
            with embedded.running(fresh):
                service = Service(process, "", "127.0.0.1", port, process.stderr)
                assert service.answers()
                assert service.stop() == 0
        finally:
            process.kill()


def test_does_not_wait_after_a_permanent_error(database: Database) -> None:
    refusal(PORT=str(free_port()), DATABASE_URL=database.url("ledger_nobody"), DATABASE_WAIT="3600")


# The schema


def test_refuses_a_database_that_is_not_migrated(template: object, empty: Database) -> None:
    message = refusal(PORT=str(free_port()), DATABASE_URL=empty.url(empty.service))
    assert "ledger.health() is missing" in message
    assert "ledger migrate" in message


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("drop function ledger.group_total", "ledger.group_total(group_id, at_time, at_entry)"),
        (
            "revoke execute on function ledger.exit_group from ledger_api",
            "ledger.exit_group(group_id, participant_id, idempotency_key, metadata, address)",
        ),
        (
            """
            drop function ledger.group_total;
            create function ledger.group_total(of_group bigint) returns numeric language sql return 0
            """,
            "ledger.group_total(group_id, at_time, at_entry)",
        ),
        ("revoke usage on schema ledger from ledger_api", "ledger.health()"),
    ],
    ids=["dropped", "not granted", "renamed parameter", "schema not granted"],
)
def test_names_the_function_that_it_cannot_call(change: str, missing: str, database: Database) -> None:
    with database.connect(database.admin) as admin:
        admin.execute(change.encode())
    with pytest.raises(StartError) as refused:
        check_at_start(database.url(database.service), any_login=False)
    assert f"{missing} is missing" in str(refused.value)
    assert "ledger migrate" in str(refused.value)


# The login


MEMBER = "create role {login} login in role ledger_api"
RIGHTS = {
    "superuser": ("is a superuser", "create role {login} login superuser"),
    "createrole": ("may create roles", MEMBER + " createrole"),
    "createdb": ("may create databases", MEMBER + " createdb"),
    "bypassrls": ("bypasses row security", MEMBER + " bypassrls"),
    "replication": ("may replicate", MEMBER + " replication"),
    "owner": ("is a member of ledger_owner", MEMBER + ", ledger_owner"),
    "bridge": ("is a member of ledger_bridge", MEMBER + ", ledger_bridge"),
    "reader": ("is a member of ledger_reader", MEMBER + ", ledger_reader"),
    "reads everything": ("is a member of pg_read_all_data", MEMBER + ", pg_read_all_data"),
    "database's owner": ("is a member of pg_database_owner", MEMBER, "alter database {database} owner to {login}"),
    "uses a sequence": (
        "has rights on sequence ledger.groups_id_seq",
        MEMBER,
        "grant update on sequence ledger.groups_id_seq to {login}",
    ),
    "calls what is not published": (
        "may execute ledger_internal.add_to_group_total",
        MEMBER,
        "grant execute on function ledger_internal.add_to_group_total to {login}",
    ),
    "uses the internal schema": (
        "may use schema ledger_internal",
        MEMBER,
        "grant usage on schema ledger_internal to {login}",
    ),
    "creates in the database": ("may create in the database", MEMBER, "grant create on database {database} to {login}"),
    "reads a table": ("has rights on table ledger.entries", MEMBER, "grant select on ledger.entries to {login}"),
    "writes a column": (
        "has rights on table ledger.participants",
        MEMBER,
        "grant update (amount) on ledger.participants to {login}",
    ),
    "everybody may": ("has rights on table ledger.groups", MEMBER, "grant truncate on ledger.groups to public"),
    "makes temporary tables": (
        "may make temporary tables",
        MEMBER,
        "grant temporary on database {database} to {login}",
    ),
    "makes objects": ("may create in schema ledger", MEMBER, "grant create on schema ledger to {login}"),
}


@pytest.mark.parametrize("rights", RIGHTS.values(), ids=RIGHTS)
def test_refuses_a_login_with_more_rights(rights: tuple[str, ...], make_login: Callable[..., str]) -> None:
    reason, *statements = rights
    conninfo = make_login(*statements)
    with pytest.raises(StartError) as refused:
        check_at_start(conninfo, any_login=False)
    assert reason in str(refused.value)
    assert LOGIN in str(refused.value)
    assert check_at_start(conninfo, any_login=True).version.startswith(str(VERSION))


def test_refuses_a_login_that_may_set_a_role_with_more_rights(
    make_login: Callable[..., str], database: Database
) -> None:
    conninfo = make_login(MEMBER)
    with database.connect(database.admin) as admin:
        admin.execute("alter role ledger_api createrole")
        try:
            with pytest.raises(StartError, match="may create roles as ledger_api"):
                check_at_start(conninfo, any_login=False)
        finally:
            admin.execute("alter role ledger_api nocreaterole")


def test_accepts_a_member_of_ledger_api(make_login: Callable[..., str]) -> None:
    assert check_at_start(make_login(MEMBER), any_login=False)


def test_serves_with_more_rights_when_insecure(make_login: Callable[..., str]) -> None:
    conninfo = make_login("create role {login} login superuser")
    message = refusal("serve", PORT=str(free_port()), DATABASE_URL=conninfo + "&password=hidden-word")
    assert "superuser" in message
    assert "--insecure" in message
    assert "hidden-word" not in message
    with serving("serve", "--insecure", DATABASE_URL=conninfo) as service:
        assert service.answers()


def test_the_embedded_login_may_have_more_rights(data: Path) -> None:
    with embedded.running(data), psycopg.connect(embedded.url(data), autocommit=True) as admin:
        admin.execute(f"grant ledger_reader to {embedded.SERVICE}")
        with serving(LEDGER_DATA=data) as service:
            assert service.answers()


def test_refuses_settings_that_the_login_may_have_changed(make_login: Callable[..., str]) -> None:
    conninfo = make_login(MEMBER, "alter role {login} set synchronous_commit = off") + "&password=hidden-word"
    message = refusal("serve", PORT=str(free_port()), DATABASE_URL=conninfo)
    assert "synchronous_commit=off" in message
    assert f'alter role "{LOGIN}" reset "synchronous_commit"' in message
    assert "hidden-word" not in message
    with serving("serve", "--insecure", DATABASE_URL=conninfo) as service:
        assert service.answers()
        assert "warning: fsync is off" in service.said()


def test_resets_settings_of_the_embedded_login(fresh: Path) -> None:
    with serving(LEDGER_DATA=fresh) as service:
        assert service.answers()
        with psycopg.connect(embedded.url(fresh, embedded.SERVICE), autocommit=True) as attacker:
            for setting in (
                "synchronous_commit = off",
                "statement_timeout = '1ms'",
                "local_preload_libraries = 'gone'",
            ):
                attacker.execute(f"alter role {embedded.SERVICE} set {setting}")
            attacker.execute(f"alter role {embedded.SERVICE} in database ledger set default_transaction_read_only = on")
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("POST", "/api/groups", {"name": "ETH"})[0] == 201
        assert service.said().count("was set for the service's login") == 4
        with psycopg.connect(embedded.url(fresh), autocommit=True) as admin:
            assert [*sessions.undocumented(admin, embedded.SERVICE)] == []


# The folder of the embedded server


@pytest.mark.parametrize("command", ["serve", "psql"])
def test_refuses_data_of_another_version(command: str, fresh: Path) -> None:
    (fresh / "pgdata" / "PG_VERSION").write_text("14\n")
    message = refusal(command, PORT=str(free_port()), LEDGER_DATA=fresh)
    assert "PostgreSQL 14" in message
    assert "PostgreSQL 18" in message
    assert str(fresh) in message


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_names_the_folder_that_the_server_cannot_enter(unused: Path) -> None:
    unused.parent.chmod(0o700)
    message = refusal(PORT=str(free_port()), LEDGER_DATA=unused)
    assert f"{unused.parent} does not let through" in message
    assert "LEDGER_DATA" in message
    assert not unused.exists()
