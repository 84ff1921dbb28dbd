"""ledger key, and how serve starts before there is an API key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.postgres import embedded
from tests.running.commands import command, done, free_port, refusal, serving
from tests.support import Database, create, one, until

SECRET = r"ledger_{}_[0-9a-f]{{64}}"


@pytest.fixture
def urls(database: Database) -> dict[str, str]:
    """The settings of a deployment: two logins to one database."""
    return {"DATABASE_URL": database.url(database.service), "LEDGER_ADMIN_URL": database.url(database.admin)}


@pytest.fixture
def admin(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect(database.admin) as connection:
        yield connection


def test_create_prints_the_secret_alone(urls: dict[str, str]) -> None:
    made = command("key", "create", "shop", "--scope", "read", **urls)
    assert made.returncode == 0
    assert re.fullmatch(SECRET.format(1) + "\n", made.stdout)
    assert made.stderr.startswith("made key 1: shop, read, all groups, made ")
    assert made.stdout.strip() not in made.stderr


def test_list_shows_every_api_key_and_no_secret(urls: dict[str, str], admin: psycopg.Connection) -> None:
    assert done("key", "list", **urls) == ""
    group = create(admin, "ETH")
    secrets = [
        done("key", "create", "shop", "--scope", "transact", "--group", str(group), **urls).strip(),
        done("key", "create", "büro 中", "--scope", "admin", **urls).strip(),
    ]
    assert done("key", "revoke", "1", **urls).startswith("key 1: shop, transact, group 1, made ")
    first, second = done("key", "list", **urls).splitlines()
    assert re.fullmatch(r"key 1: shop, transact, group 1, made \S+ \S+, revoked \S+ \S+", first)
    assert re.fullmatch(r"key 2: büro 中, admin, all groups, made \S+ \S+, good", second)
    assert not any(secret.rpartition("_")[2] in first + second for secret in secrets)


def test_lists_more_api_keys_than_a_page_holds(urls: dict[str, str], admin: psycopg.Connection) -> None:
    admin.execute("select ledger.create_api_key(n::text, 'read') from generate_series(1, 1001) as n")
    assert len(done("key", "list", **urls).splitlines()) == 1001


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["key"], 2),
        (["key", "create", "shop"], 2),
        (["key", "create", "shop", "--scope", "open"], 2),
        (["key", "create", "shop", "--scope", "read", "--group", "-1"], 2),
        (["key", "create", "shop", "--scope", "read", "--group", "99"], 1),
        (["key", "create", " ", "--scope", "read"], 1),
        (["key", "revoke", "99"], 1),
        (["key", "revoke", "x"], 2),
    ],
)
def test_invalid_arguments_are_refused_with_a_message(urls: dict[str, str], arguments: list[str], status: int) -> None:
    refusal(*arguments, status=status, **urls)


def test_the_serving_login_cannot_create_an_api_key(database: Database) -> None:
    said = refusal("key", "create", "mine", "--scope", "admin", DATABASE_URL=database.url(database.service))
    assert "permission denied" in said


# Before there is a key


def test_serve_refuses_a_database_without_api_keys(urls: dict[str, str]) -> None:
    said = refusal("serve", PORT=str(free_port()), **urls)
    assert "ledger key create" in said
    assert "--insecure" in said
    secret = done("key", "create", "shop", "--scope", "read", **urls).strip()
    done("key", "revoke", secret.split("_")[1], **urls)
    with serving("serve", "--workers", "1", locked=True, **urls) as service:
        assert service.ask("GET", "/api/groups")[0] == 401


def test_a_service_started_with_api_keys_requires_one_after_they_are_deleted(
    urls: dict[str, str], admin: psycopg.Connection
) -> None:
    done("key", "create", "shop", "--scope", "read", **urls)
    with serving("serve", locked=True, **urls) as service:
        # As a restore of an older backup leaves it.
        admin.execute("set session_replication_role = replica")
        admin.execute("delete from ledger.api_keys")
        assert service.ask("GET", "/api/groups")[0] == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_embedded_service_is_open_on_loopback_at_first(fresh: Path, host: str) -> None:
    with serving("--host", host, LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups")[0] == 200
        assert "no API key yet" in service.said()
        done("key", "create", "shop", "--scope", "read", LEDGER_DATA=fresh)
    with serving("--host", host, LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups")[0] == 401
        assert "no API key yet" not in service.said()


def test_a_reset_drops_the_api_keys_and_still_requires_one(fresh: Path) -> None:
    done("reset", "--yes", LEDGER_DATA=fresh)
    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups")[0] == 200  # there has never been a key
    secret = done("key", "create", "shop", "--scope", "admin", LEDGER_DATA=fresh).strip()
    asked = command("reset", said="yes\n", LEDGER_DATA=fresh)
    assert "API key" in asked.stdout
    assert "ledger key create" in asked.stderr
    for _ in range(2):
        with serving(LEDGER_DATA=fresh) as service:
            assert service.ask("GET", "/api/groups")[0] == 401
            assert service.ask("GET", "/api/groups", Authorization=f"Bearer {secret}")[0] == 401
            new = done("key", "create", "shop", "--scope", "admin", LEDGER_DATA=fresh).strip()
            assert service.ask("GET", "/api/groups", Authorization=f"Bearer {new}")[0] == 200
        done("key", "revoke", new.split("_")[1], LEDGER_DATA=fresh)
        done("reset", "--yes", LEDGER_DATA=fresh)
        assert re.fullmatch(r"key 1: keys dropped by .*, revoked \S+ \S+\n", done("key", "list", LEDGER_DATA=fresh))


def test_the_embedded_service_is_not_open_to_other_machines(fresh: Path) -> None:
    said = refusal("serve", "--host", "0.0.0.0", PORT=str(free_port()), LEDGER_DATA=fresh)
    assert "no API key" in said
    with serving("--host", "0.0.0.0", "--insecure", LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups")[0] == 200
    done("key", "create", "shop", "--scope", "read", LEDGER_DATA=fresh)
    with serving("--host", "0.0.0.0", LEDGER_DATA=fresh) as service:
        assert service.ask("GET", "/api/groups")[0] == 401


def test_refusals_are_not_in_the_embedded_servers_log(fresh: Path) -> None:
    def log() -> str:
        return "".join(path.read_text() for path in (fresh / "log").glob("postgresql-*.log"))

    with serving(LEDGER_DATA=fresh) as service:
        assert service.ask("POST", "/api/groups", {"name": "ETH"})[0] == 201
        assert (
            service.ask("POST", "/api/groups/1/participants", {"username": "seldom-name", "amount": 777000777})[0]
            == 201
        )
        assert service.ask("POST", "/api/groups/1/participants", {"username": "other", "amount": 1})[0] == 201
        body = {"from": 1, "to": 2, "amount": 777000778}
        assert service.ask("POST", "/api/groups/1/transfer", body)[0] == 403
        assert service.ask("POST", "/api/groups/1/transfers", {"transfers": [body]})[0] == 403
        assert service.ask("POST", "/api/groups/1/participants", {"username": "seldom-name", "amount": 0})[0] in (
            409,
            422,
        )
        with psycopg.connect(embedded.url(fresh, embedded.SERVICE), autocommit=True) as login:
            for statement in ("select ledger.transfer(1, 1, 2, 777000778)", "set log_min_messages = debug1"):
                with pytest.raises(psycopg.Error):
                    login.execute(statement)
            login.execute("do $$ begin raise log 'an operator sees this'; end $$")
        assert command("psql", "-c", "select ledger.transfer(1, 1, 2, 777000778)", LEDGER_DATA=fresh).returncode == 1
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(embedded.url(fresh, embedded.SERVICE, "no_such_database"))
        with psycopg.connect(embedded.url(fresh), autocommit=True) as admin, pytest.raises(psycopg.Error):
            admin.execute("select 'the last word' / 0")
        until(lambda: "the last word" in log(), "the log")
    written = log()
    assert "an operator sees this" in written
    assert "no_such_database" in written
    assert not [word for word in ("777000777", "777000778", "seldom-name") if word in written], written


def test_a_ledger_of_the_previous_release_keeps_refusals_out_of_the_log(fresh: Path) -> None:
    question = f"select setconfig::text from pg_db_role_setting where setrole = '{embedded.SERVICE}'::regrole"
    done("migrate", LEDGER_DATA=fresh)
    done("psql", "-c", f"alter role {embedded.SERVICE} reset log_min_messages", LEDGER_DATA=fresh)
    done("migrate", LEDGER_DATA=fresh)
    assert "log_min_messages=log" in done("psql", "-XAtc", question, LEDGER_DATA=fresh)
    done("psql", "-c", f"alter role {embedded.SERVICE} set log_min_messages = error", LEDGER_DATA=fresh)
    done("migrate", LEDGER_DATA=fresh)
    assert "log_min_messages=error" in done("psql", "-XAtc", question, LEDGER_DATA=fresh)


def test_the_embedded_login_has_time_outs_and_makes_no_temporary_tables(fresh: Path) -> None:
    done("migrate", LEDGER_DATA=fresh)
    with embedded.running(fresh), psycopg.connect(embedded.url(fresh, embedded.SERVICE), autocommit=True) as login:
        assert one(login, "select current_setting('lock_timeout'), current_setting('statement_timeout')") == (
            "5s",
            "10s",
        )
        assert one(login, "select has_database_privilege(current_database(), 'temporary')") == (False,)
