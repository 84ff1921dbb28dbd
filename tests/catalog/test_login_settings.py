"""Settings that an attacker leaves on the serving login do no harm, or stop the service from starting."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from api.postgres import sessions
from api.postgres.pools import Database as ServiceDatabase
from api.postgres.preflight import StartError, check_at_start
from api.postgres.session_settings import CHOSEN, FIXED, SETTINGS, TIMEOUTS
from tests.conftest import VERSION
from tests.support import Database, balance, create, join, one, refused, transfer

ROLE = "ledger_service"
HARM = {
    "synchronous_commit": "off",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "transaction_read_only": "on",
    "search_path": "pg_temp, public",
    "statement_timeout": "50ms",
    "lock_timeout": "99",
    "idle_in_transaction_session_timeout": "50 ms",
    "idle_session_timeout": "50ms",
    "enable_indexscan": "off",
    "work_mem": "64kB",
    "plan_cache_mode": "force_custom_plan",
    "jit_above_cost": "0",
    "row_security": "off",
    "DateStyle": "SQL, DMY",
    "TimeZone": "Pacific/Apia",
    "timezone_abbreviations": "India",
    "client_encoding": "latin1",
    "bytea_output": "escape",
    "transform_null_equals": "on",
    "client_min_messages": "debug5",
    "role": "ledger_api",
}
# They belong to one transaction, and begin with each from the defaults.
OF_A_TRANSACTION = {"transaction_isolation", "transaction_read_only", "transaction_deferrable"}
if VERSION >= 17:
    HARM["transaction_timeout"] = "50ms"


@pytest.fixture
def altered(database: Database) -> Iterator[psycopg.Connection]:
    """The login's connection, which alters its role; the settings are reset in the end, since tests share roles."""
    with database.connect() as attacker:
        yield attacker
    with database.connect(database.admin) as admin:
        admin.execute(f"alter role {ROLE} reset all")


def alter(attacker: psycopg.Connection, name: str, value: str, in_database: bool = False) -> None:
    where = sql.SQL("in database {}").format(sql.Identifier(attacker.info.dbname)) if in_database else sql.SQL("")
    shown = sql.SQL(value) if name == "search_path" else sql.Literal(value)
    parts = sql.Identifier(ROLE), where, sql.Identifier(*name.split(".")), shown
    attacker.execute(sql.SQL("alter role {} {} set {} = {}").format(*parts))


def settings_of_the_service(database: Database) -> dict[str, str]:
    """The settings of a connection as the service makes it."""

    async def ask() -> dict[str, str]:
        service = ServiceDatabase(database.url(ROLE), "test")
        await service.calls.open()
        try:
            async with service.calls.connection(30) as connection:
                rows = await connection.execute("select name, setting from pg_settings")
                return dict(await rows.fetchall())
        finally:
            await service.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("in_database", [False, True], ids=["everywhere", "in the database"])
def test_refuses_to_start_with_settings_of_the_login(database, altered, in_database):
    for name, value in HARM.items():
        alter(altered, name, value, in_database)
        with pytest.raises(StartError) as raised:
            check_at_start(database.url(ROLE), any_login=False)
        message = str(raised.value)
        assert f"{name}=" in message
        advice = message.partition("as its administrator, ")[2].partition(". Or start")[0]
        assert advice.startswith("alter role ")
        # The advice is right: it is run as it is given.
        with database.connect(database.admin) as admin:
            admin.execute(advice.encode())
        assert check_at_start(database.url(ROLE), any_login=False)


def test_no_setting_of_the_login_reaches_a_connection_of_the_service(database, altered):
    before = settings_of_the_service(database)
    for name, value in HARM.items():
        alter(altered, name, value)
    after = settings_of_the_service(database)
    assert {
        name: (value, after[name])
        for name, value in before.items()
        if after[name] != value and name != "application_name"
    } == {}


def test_a_commit_is_on_the_disk_whatever_the_login_set(database, altered):
    alter(altered, "synchronous_commit", "off")
    with database.connect() as session:
        assert one(session, "show synchronous_commit") == ("off",)
        session.execute(SETTINGS, CHOSEN)
        assert one(session, "show synchronous_commit") == ("on",)


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [("remote_apply", "remote_apply"), ("local", "local"), ("remote_write", "remote_write"), ("off", "on")],
)
def test_the_administrators_synchronous_commit_is_kept(database, chosen, kept):
    with database.connect(database.admin) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("alter database {} set synchronous_commit = {}").format(name, sql.Literal(chosen)))
    assert settings_of_the_service(database)["synchronous_commit"] == kept
    warnings = check_at_start(database.url(ROLE), any_login=False).warnings
    assert any("synchronous_commit" in warning for warning in warnings) == (chosen == "off")


def test_an_administrators_read_only_database_stays_read_only(database):
    with database.connect(database.admin) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("alter database {} set default_transaction_read_only = on").format(name))
    assert settings_of_the_service(database)["default_transaction_read_only"] == "on"
    assert check_at_start(database.url(ROLE), any_login=False)
    with database.connect(database.admin, options="-c default_transaction_read_only=off") as admin:
        admin.execute(sql.SQL("alter database {} reset default_transaction_read_only").format(name))


@pytest.mark.parametrize("value", ["0", "100", "300ms", "2min"])
def test_the_login_may_set_its_own_time_outs(database, altered, value):
    for name in sessions.OWN:
        alter(altered, name, value)
    assert check_at_start(database.url(ROLE), any_login=False)
    with database.connect() as session:
        own = {name: one(session, f"show {name}") for name in sessions.OWN}
        session.execute(SETTINGS, CHOSEN)
        for name in sessions.OWN:
            # The service's sessions wait for requests, and are never ended for that.
            kept = value != "0" and name != "idle_session_timeout"
            assert one(session, f"show {name}") == (own[name] if kept else (TIMEOUTS.get(name, "0"),))


def test_settings_that_only_a_superuser_can_change_are_kept(database, altered):
    with database.connect(database.admin) as admin:
        for name, value in (("log_min_messages", "fatal"), ("log_min_error_statement", "panic")):
            refused(altered, "42501", f"alter role {ROLE} set {name} = {value}")
            admin.execute(f"alter role {ROLE} set {name} = {value}")
    assert check_at_start(database.url(ROLE), any_login=False)


@pytest.mark.parametrize("any_login", [False, True])
def test_refuses_to_start_where_triggers_do_not_run(database, altered, any_login):
    refused(altered, "42501", f"alter role {ROLE} set session_replication_role = replica")
    with database.connect(database.admin) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("alter database {} set session_replication_role = replica").format(name))
    with pytest.raises(StartError, match="session_replication_role"):
        check_at_start(database.url(ROLE), any_login=any_login)
    with database.connect(database.admin) as admin:
        admin.execute(sql.SQL("alter database {} reset all").format(name))


def test_warns_of_a_server_that_may_lose_acknowledged_writes(database):
    # The server of the tests has it off, for speed.
    assert [warning for warning in check_at_start(database.url(ROLE), any_login=False).warnings if "fsync" in warning]


def test_every_setting_of_a_role_can_be_reset(database):
    """The built-in value of each, as SETTINGS gives it to the server, is one that the server takes."""
    with database.connect() as session:
        names = session.execute(
            "select name, coalesce(boot_val, '') from pg_settings where context = 'user'"
        ).fetchall()
        assert len(names) > 100
        for name, value in [row for row in names if row[0] not in {*FIXED, *OF_A_TRANSACTION}]:
            session.execute("select set_config(%s, %s, false)", [name, value])


def test_calls_work_after_everything_was_set(database, altered):
    for name, value in HARM.items():
        if not name.endswith("timeout"):
            alter(altered, name, value)
    with database.connect(client_encoding="utf8") as session:
        session.execute(SETTINGS, CHOSEN)
        group = create(session, "ETH")
        alice, bob = join(session, group, "alice"), join(session, group, "bob")
        transfer(session, group, alice, bob, 60)
        assert balance(session, group, bob) == 160
