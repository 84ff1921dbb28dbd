"""The rights of an attacker who controls the web process and its serving login: to call published functions.

Tables, sequences, internal functions and `set role` are in test_refusals.py.
"""

import pytest
from psycopg import sql

from tests.support import Database, balance, call, create, discrepancies, join, one, refused, transfer

DENIED = "42501"


@pytest.fixture
def attacker(database: Database):
    with database.connect() as connection:
        yield connection


@pytest.fixture
def group(database: Database) -> tuple[int, int, int]:
    """A group of alice and bob, who have 100 each."""
    with database.connect() as ledger:
        group = create(ledger, "ETH")
        return group, join(ledger, group, "alice"), join(ledger, group, "bob")


def test_cannot_create_any_object(attacker):
    schemas = attacker.execute(
        """
        select n.nspname from pg_namespace as n
        where has_schema_privilege(n.oid, 'create')
          or n.nspname = 'ledger' and not has_schema_privilege(n.oid, 'usage')
          or n.nspname = 'ledger_internal' and has_schema_privilege(n.oid, 'usage')
        """
    ).fetchall()
    assert schemas == []
    assert one(attacker, "select has_database_privilege(current_database(), 'create, temporary')") == (False,)
    for statement in (
        "create temporary table mine ()",
        "create function pg_temp.mine() returns int language sql return 1",
        "create type pg_temp.mine as (a int)",
        "create schema mine",
        "create function public.mine() returns int language sql return 1",
        "create operator public.= (function = int4eq, leftarg = int, rightarg = int)",
        "create cast (text as ledger.principal) with inout",
        "create event trigger mine on ddl_command_start execute function ledger_internal.forbid_mutation()",
        "create publication mine for all tables",
    ):
        refused(attacker, DENIED, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "do $$ begin insert into ledger.groups (name) values ('mine'); end $$",
        "do $$ begin execute 'update ledger.participants set amount = 1'; end $$",
        "do $$ begin perform ledger_internal.add_to_group_total(1, 1, now()); end $$",
        "do $$ begin set local role ledger_owner; end $$",
        "do $$ begin reset role; delete from ledger.entries; end $$",
        "declare mine cursor with hold for select * from ledger.participants",
        "with mine as (delete from ledger.entries returning *) select * from mine",
        "explain analyze select * from ledger.entries",
        "select ledger.health() from ledger.groups for update",
        "select pg_read_file('PG_VERSION')",
        "select pg_ls_dir('.')",
        "select lo_import('/etc/passwd')",
        "copy (select 1) to program 'true'",
        "copy (select 1) to '/tmp/mine'",
        "select * from pg_authid",
        "select * from pg_statistic",
        "create or replace view ledger.record as select 1",
        "set session_replication_role = replica",
        "set session authorization postgres",
        "alter role ledger_owner login",
        "alter database postgres set search_path = mine",
        "alter default privileges for role ledger_owner grant select on tables to public",
        "comment on schema ledger is 'mine'",
        "reassign owned by ledger_owner to current_user",
    ],
)
def test_cannot_read_rows_through_other_means(attacker, group, statement):
    refused(attacker, DENIED, statement)


@pytest.mark.parametrize(
    "statement", ["reset role", "set role none", "reset all", "discard all", "reset session authorization"]
)
def test_stays_the_same_role_after_every_reset(attacker, statement):
    attacker.execute(statement)
    assert one(attacker, "select session_user, current_user") == ("ledger_service",) * 2
    refused(attacker, DENIED, "select * from ledger.entries")


def test_statistics_do_not_show_rows(database, attacker, group):
    with database.connect(database.admin) as admin:
        admin.execute("analyze")
        assert one(admin, "select count(*) > 0 from pg_stats where schemaname = 'ledger'") == (True,)
    assert attacker.execute("select * from pg_stats where schemaname = 'ledger'").fetchall() == []
    assert attacker.execute("select * from pg_stats_ext where schemaname = 'ledger'").fetchall() == []


HOSTILE = {
    "search_path": "pg_temp, public, pg_catalog, ledger",
    "role": "ledger_api",
    "array_nulls": "off",
    "bytea_output": "escape",
    "datestyle": "SQL, DMY",
    "intervalstyle": "iso_8601",
    "timezone": "Pacific/Apia",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "on",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "check_function_bodies": "off",
    "plan_cache_mode": "force_custom_plan",
    "enable_indexscan": "off",
    "enable_nestloop": "off",
    "enable_hashjoin": "off",
    "work_mem": "64kB",
    "from_collapse_limit": "1",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "synchronous_commit": "off",
    "client_min_messages": "debug5",
    "xmloption": "document",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_its_own_settings_change_no_rule(database, attacker, group, name):
    number, alice, bob = group
    attacker.execute(sql.SQL("set {} = {}").format(sql.Identifier(name), sql.Literal(HOSTILE[name])))
    transfer(attacker, number, alice, bob, 60)
    refused(attacker, "LG003", f"select ledger.transfer({number}, {alice}, {bob}, 60)")
    refused(attacker, "LG001", f"select ledger.transfer({number}, {alice}, {bob}, 0.5)")
    refused(attacker, "LG001", f"select ledger.transfer({number}, {alice}, {bob}, 'NaN')")
    keyed = f"select replayed from ledger.transfer({number}, {bob}, {alice}, 10, 'key', '{{\"order\": 1}}')"
    assert one(attacker, keyed) == (False,)
    attacker.execute("reset all")
    assert one(attacker, keyed) == (True,)
    assert (balance(attacker, number, alice), balance(attacker, number, bob)) == (50, 150)
    with database.connect(database.admin) as admin:
        assert discrepancies(admin) == []
        assert admin.execute("select * from ledger.verify(%s)", [number]).fetchall() == []


def test_its_objects_in_pg_temp_do_not_replace_the_ledgers(database, group):
    """TEMP is revoked; where it is not, the functions look for their own first."""
    number, alice, bob = group
    with database.connect(database.admin) as admin:
        name = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("grant temporary on database {} to public").format(name))
        relations = admin.execute(
            "select relname from pg_class where relnamespace = 'ledger'::regnamespace and relkind in ('r', 'v')"
        ).fetchall()
        functions = admin.execute(
            """
            select proname, pg_get_function_identity_arguments(oid), proretset
            from pg_proc
            where pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
              and prorettype <> 'trigger'::regtype
              -- Types of ledger_internal cannot be named.
              and pg_get_function_identity_arguments(oid) not like '%ledger_internal%'
            """
        ).fetchall()
    with database.connect() as attacker:
        for (relation,) in relations:
            attacker.execute(sql.SQL("create temporary table {} (id bigint)").format(sql.Identifier(relation)))
        trap = "begin raise exception 'trapped'; end"
        for function, arguments, _ in functions:
            types = sql.SQL(arguments.replace("OUT ", "").replace("VARIADIC ", ""))
            head = sql.SQL("create function pg_temp.{}({}) returns void language plpgsql as {}")
            attacker.execute(head.format(sql.Identifier(function), types, sql.Literal(trap)))
        for kind in ("bigint", "numeric", "text", "timestamptz"):
            attacker.execute(
                f"create function pg_temp.equal(a {kind}, b {kind}) returns boolean language plpgsql as $$ {trap} $$"
            )
            attacker.execute(
                f"create operator pg_temp.= (function = pg_temp.equal, leftarg = {kind}, rightarg = {kind})"
            )
        attacker.execute("set search_path = pg_temp, ledger, pg_catalog, public")
        transfer(attacker, number, alice, bob, 60)
        assert balance(attacker, number, bob) == 160
        assert call(attacker, "get_group", number) == [("ETH", number)]
        assert len(call(attacker, "list_entries", number)) == 3
        assert call(attacker, "exit_group", number, alice)[0][0] == 40
