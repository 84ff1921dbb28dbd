"""The commands other than serve: migrate, seed, reset, url, psql, and their --help."""

from __future__ import annotations

import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.postgres import embedded, migrate
from tests.conftest import Server
from tests.running.commands import LEDGER, SETTINGS, command, done, environment, postmaster, refusal, serving
from tests.support import Database, call, create, one

SHIPPED = "".join(f"applied {migration.id}\n" for migration in migrate.shipped())
GROUPS = ["Ethereum Foundation", "ConsenSys"]


@pytest.fixture
def urls(database: Database) -> dict[str, str]:
    """The settings of a deployment: two logins to one database."""
    return {"DATABASE_URL": database.url(database.service), "LEDGER_ADMIN_URL": database.url(database.admin)}


@pytest.fixture
def empty_urls(template: object, empty: Database) -> dict[str, str]:
    return {"DATABASE_URL": empty.url(empty.service), "LEDGER_ADMIN_URL": empty.url(empty.admin)}


def groups(database: Database) -> list[str]:
    with database.connect() as service:
        return [name for name, _ in call(service, "list_groups")]


# help


def test_help_names_every_command_and_setting() -> None:
    text = done("--help")
    assert text == done("-h")
    for name in ["serve", "migrate", "seed", "reset", "url", "psql", *SETTINGS]:
        assert name in text


@pytest.mark.parametrize(
    ("name", "options"),
    [("serve", ["--host", "--port", "--workers", "--insecure"]), ("seed", ["--groups", "--participants"])],
)
def test_a_commands_help_names_its_options(name: str, options: list[str]) -> None:
    text = done(name, "--help")
    assert all(option in text for option in options)


def test_prints_its_version() -> None:
    assert done("--version") == "ledger 0.1.0\n"


# migrate


def test_migrate_prints_the_applied_migrations(empty_urls: dict[str, str]) -> None:
    assert done("migrate", **empty_urls) == SHIPPED
    assert done("migrate", **empty_urls) == "nothing to apply\n"


def test_migrates_at_once_apply_each_migration_once(empty_urls: dict[str, str]) -> None:
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(done, "migrate", **empty_urls) for _ in range(3)]
    assert sorted(run.result() for run in runs) == sorted([SHIPPED, *["nothing to apply\n"] * 2])


def test_migrates_the_embedded_database(unmigrated: Path) -> None:
    assert done("migrate", LEDGER_DATA=unmigrated) == SHIPPED
    assert postmaster(unmigrated) is None
    assert done("migrate", LEDGER_DATA=unmigrated) == "nothing to apply\n"


def test_migrate_refuses_a_login_without_the_right(template: object, empty: Database) -> None:
    refusal("migrate", DATABASE_URL=empty.url(empty.service))


# seed


def test_seeds_the_demo_groups_once(urls: dict[str, str], database: Database) -> None:
    for _ in range(2):
        assert done("seed", **urls) == "the demo groups are there\n"
    assert groups(database) == GROUPS


def test_seeds_a_large_data_set(urls: dict[str, str], database: Database) -> None:
    assert done("seed", "--groups", "2", "--participants", "3", **urls).splitlines() == [
        "group 1 of 2: 3 joined, 0 were there",
        "group 2 of 2: 3 joined, 0 were there",
    ]
    assert groups(database) == ["Group 1", "Group 2"]
    for option in ("--groups", "--participants"):
        assert "go together" in refusal("seed", option, "3", **urls)


def test_seed_migrates_the_embedded_database(unmigrated: Path) -> None:
    assert done("seed", LEDGER_DATA=unmigrated) == "the demo groups are there\n"
    assert postmaster(unmigrated) is None
    with serving(LEDGER_DATA=unmigrated) as service:
        assert [group["name"] for group in service.ask("GET", "/api/groups")[1]["data"]] == GROUPS


# reset


@pytest.mark.parametrize("answer", ["", "no\n", "y\n"])
def test_reset_without_a_yes_changes_nothing(answer: str, urls: dict[str, str], database: Database) -> None:
    with database.connect() as service:
        create(service, "ETH")
    assert "nothing was changed" in refusal("reset", said=answer, **urls)
    assert groups(database) == ["ETH"]


@pytest.mark.parametrize(("options", "answer"), [([], "yes\n"), (["--yes"], "")])
def test_reset_leaves_an_empty_ledger(
    options: list[str], answer: str, urls: dict[str, str], database: Database
) -> None:
    with database.connect() as service:
        create(service, "ETH")
    printed = done("reset", *options, said=answer, **urls)
    assert printed.endswith("the ledger is as new\n")
    assert ("for good" in printed) == (not options)
    assert groups(database) == GROUPS
    assert done("migrate", **urls) == "nothing to apply\n"


def test_reset_works_on_an_empty_database(empty_urls: dict[str, str], empty: Database) -> None:
    assert done("reset", "--yes", **empty_urls) == "the ledger is as new\n"
    assert groups(empty) == GROUPS


def test_reset_works_beside_a_service(urls: dict[str, str]) -> None:
    with serving(**urls) as service:
        assert service.ask("POST", "/api/groups", {"name": "ETH"})[0] == 201
        assert [group["name"] for group in service.ask("GET", "/api/groups")[1]["data"]] == ["ETH"]
        done("reset", "--yes", **urls)
        assert [group["name"] for group in service.ask("GET", "/api/groups")[1]["data"]] == GROUPS


def test_reset_of_a_new_folder_makes_it_ready_to_serve(unmigrated: Path) -> None:
    assert done("reset", "--yes", LEDGER_DATA=unmigrated) == "the ledger is as new\n"
    with serving(LEDGER_DATA=unmigrated) as service:
        assert [group["name"] for group in service.ask("GET", "/api/groups")[1]["data"]] == GROUPS


# url


def test_url_is_the_administrators(urls: dict[str, str]) -> None:
    assert done("url", **urls) == urls["LEDGER_ADMIN_URL"] + "\n"
    assert done("url", DATABASE_URL=urls["DATABASE_URL"]) == urls["DATABASE_URL"] + "\n"


def test_url_leaves_the_embedded_server_to_psql(data: Path) -> None:
    assert postmaster(data) is None
    url = done("url", LEDGER_DATA=data).strip()
    assert postmaster(data)
    psql = subprocess.run(
        [embedded.binaries() / "psql", url, "-XAtc", "select name from ledger.list_groups()"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert psql.stdout.splitlines() == GROUPS, psql.stderr
    # The next command that uses it stops it at its end.
    assert done("psql", "-XAtc", "select 1", LEDGER_DATA=data) == "1\n"
    assert postmaster(data) is None


# psql


def test_psql_gets_the_arguments(urls: dict[str, str], database: Database) -> None:
    assert done("psql", "-XAt", "-c", "select session_user", **urls) == f"{database.admin}\n"
    assert done("psql", "-XAt", "-v", "n=3", said="select :n + 1;\n", **urls) == "4\n"
    assert done("psql", "--version", **urls).startswith("psql (PostgreSQL)")


def test_psql_works_without_one_on_the_machine(urls: dict[str, str], data: Path) -> None:
    assert done("psql", "-XAtc", "select 1", PATH="/nowhere", **urls) == "1\n"
    assert done("psql", "-XAtc", "select 1", PATH="/nowhere", LEDGER_DATA=data) == "1\n"


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["-c", "select 1"], "", 0),
        (["-c", "select 1/0"], "", 1),
        (["-d", "no_such_database", "-c", "select 1"], "", 2),
        (["-v", "ON_ERROR_STOP=1"], "select 1/0;\n", 3),
    ],
)
def test_psqls_exit_status_is_returned(arguments: list[str], said: str, status: int, urls: dict[str, str]) -> None:
    result = command("psql", "-X", *arguments, said=said, **urls)
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr


def test_psql_shows_all_of_a_refusal(urls: dict[str, str]) -> None:
    result = command("psql", "-X", "-c", "select ledger.transfer(1, 2, 1, 1.5)", **urls)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith("ERROR:  LG001: ")
    assert any(line.startswith("DETAIL:  amount: ") for line in lines)
    assert any(line.startswith("HINT:  ") for line in lines)
    assert not any(line.startswith("CONTEXT:") for line in lines)


def test_psql_hides_the_password(urls: dict[str, str]) -> None:
    conninfo = urls["LEDGER_ADMIN_URL"] + "&password=hidden-word"
    shown = done("psql", "-X", said="\\! tr '\\\\0' ' ' < /proc/$PPID/cmdline\n", LEDGER_ADMIN_URL=conninfo)
    assert "--dbname" in shown
    assert "hidden-word" not in shown


def test_psql_beside_a_service_leaves_it_running(data: Path) -> None:
    with serving(LEDGER_DATA=data) as service:
        server = postmaster(data)
        assert done("psql", "-XAtc", "select count(*) from ledger.groups", LEDGER_DATA=data) == "2\n"
        assert postmaster(data) == server
        assert service.answers()


def test_psql_continues_when_the_service_stops(data: Path) -> None:
    with subprocess.Popen(
        [LEDGER, "psql", "-XAt"],
        env=environment(LEDGER_DATA=data),
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write("select 1;\n")
        assert psql.stdout.readline() == "1\n"
        with serving(LEDGER_DATA=data) as service:
            assert service.answers()
        psql.stdin.write("select 2;\n")
        assert psql.stdout.readline() == "2\n"
        psql.stdin.close()
        assert psql.wait(60) == 0
    assert postmaster(data) is None


def test_the_service_has_no_administrators_rights(urls: dict[str, str], database: Database) -> None:
    assert "LG" not in refusal("reset", "--yes", DATABASE_URL=urls["DATABASE_URL"])
    with database.connect(database.admin) as admin:
        assert one(admin, "select to_regclass('ledger.entries') is not null")[0]


# the caller's environment


# Of this process alone: other tests run beside it.
OTHER_ADDRESS = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"


def other_server(folder: Path) -> dict[str, str]:
    """Variables for another server: each alone would connect a command to it, or make the command fail."""
    (folder / "service.conf").write_text("[other]\nuser=nobody\ndbname=nothing\n")
    return {
        "PGHOST": "nowhere.invalid",
        "PGHOSTADDR": OTHER_ADDRESS,
        "PGPORT": "1",
        "PGUSER": "nobody",
        "PGDATABASE": "postgres",
        "PGPASSWORD": "secret",
        "PGPASSFILE": "/nowhere",
        "PGSERVICE": "other",
        "PGSERVICEFILE": str(folder / "service.conf"),
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGREQUIREAUTH": "password",
        "PGTARGETSESSIONATTRS": "standby",
        "PGCHANNELBINDING": "require",
        "PGGSSENCMODE": "require",
        "PGSSLMODE": "verify-full",
        "PGREQUIREPEER": "nobody",
        "PGMINPROTOCOLVERSION": "nonsense",
        "PGCONNECT_TIMEOUT": "nonsense",
        "PGTZ": "Asia/Tokyo",
        "PGAPPNAME": "somebody else",
    }


@pytest.mark.parametrize(
    "given",
    [
        ("url",),
        ("migrate",),
        ("seed",),
        ("verify",),
        ("key", "list"),
        ("psql", "-XAtc", "create table made_here ()"),
        ("reset", "--yes"),
    ],
    ids=lambda given: given[0],
)
def test_a_command_uses_the_embedded_database_under_any_environment(
    given: tuple[str, ...], data: Path, tmp_path: Path
) -> None:
    with embedded.running(data), socket.create_server((OTHER_ADDRESS, 5432)) as other:
        done(*given, LEDGER_DATA=data, **other_server(tmp_path))
        other.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody asked the other one
            other.accept()
        done("psql", "-Xc", "drop table if exists made_here", LEDGER_DATA=data)


def test_the_service_uses_the_embedded_database_under_any_environment(data: Path, tmp_path: Path) -> None:
    with serving(LEDGER_DATA=data, **other_server(tmp_path)) as service:
        assert service.answers()
        assert [group["name"] for group in service.ask("GET", "/api/groups")[1]["data"]] == GROUPS


@pytest.mark.parametrize(
    "given",
    [
        ("url",),
        ("migrate",),
        ("seed",),
        ("verify",),
        ("key", "list"),
        ("psql", "-c", ""),
        ("reset", "--yes"),
        ("serve",),
    ],
    ids=lambda given: given[0],
)
def test_every_command_refuses_a_server_with_another_data_directory(
    given: tuple[str, ...], fresh: Path, database: Database, server: Server
) -> None:
    with database.connect() as service:
        create(service, "ETH")
    run = fresh / "run"
    run.mkdir(exist_ok=True)
    (run / ".s.PGSQL.5432").unlink(missing_ok=True)
    (run / ".s.PGSQL.5432").symlink_to(server.data / "run" / ".s.PGSQL.5432")
    assert f"works in {server.data / 'pgdata'}, and not in {fresh / 'pgdata'}" in refusal(*given, LEDGER_DATA=fresh)
    assert groups(database) == ["ETH"]
    with server.database("postgres").connect(embedded.ADMIN) as admin:
        assert one(admin, "select count(*) from pg_database where datname = 'ledger'")[0] == 1
    (run / ".s.PGSQL.5432").unlink()
