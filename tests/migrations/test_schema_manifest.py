"""db/schema.txt describes the migrated schema, and each difference of a database from it is named."""

import psycopg
import pytest
from psycopg import sql

from api.admin import schema
from api.postgres import embedded, migrate
from tests.migrations.steps import NAMES, apply_before
from tests.support import Database, one

MOVE = "function ledger_internal.execute_transfer(bigint,bigint,bigint,numeric,jsonb,bigint)"
HEALTH = "function ledger.health()"
# A change, and the words for it; each of an intact database.
CHANGES: dict[str, tuple[str, list[str]]] = {
    "body": (
        "create or replace function ledger_internal.transfer_request(from_id bigint, to_id bigint, amount numeric, "
        "metadata jsonb) returns text[] language sql immutable parallel safe as $$ select '{}'::text[] $$",
        ["function ledger_internal.transfer_request(bigint,bigint,numeric,jsonb) has another body"],
    ),
    "volatility": (
        f"alter {HEALTH} immutable",
        [
            f"{HEALTH} has another declaration: (OUT status text) returns text sql immutable security definer "
            "parallel s set search_path=ledger, ledger_internal, pg_temp; it should be: "
            "(OUT status text) returns text sql stable security definer "
            "parallel s set search_path=ledger, ledger_internal, pg_temp"
        ],
    ),
    "definer": (f"alter {MOVE} security definer", [f"{MOVE} has another declaration"]),
    "invoker": ("alter function ledger.health security invoker", [f"{HEALTH} has another declaration"]),
    "search-path": ("alter function ledger.health set search_path = public", [f"{HEALTH} has another declaration"]),
    "no-search-path": ("alter function ledger.health reset all", [f"{HEALTH} has another declaration"]),
    "function-owner": (
        f"alter {MOVE} owner to current_user",
        [
            f"{MOVE} has another grants: postgres EXECUTE; it should be: ledger_owner EXECUTE",
            f"{MOVE} has another owner: postgres; it should be: ledger_owner",
        ],
    ),
    "function-grant": (
        f"grant execute on {MOVE} to ledger_api",
        [f"{MOVE} has another grants: ledger_api EXECUTE, ledger_owner EXECUTE; it should be: ledger_owner EXECUTE"],
    ),
    "function-revoke": (
        "revoke execute on function ledger.health from ledger_api",
        [
            f"{HEALTH} has another grants: ledger_bridge EXECUTE, ledger_owner EXECUTE; it should be: "
            "ledger_api EXECUTE, ledger_bridge EXECUTE, ledger_owner EXECUTE"
        ],
    ),
    "no-function": (f"drop {MOVE}", [f"{MOVE} is missing"]),
    "another-function": (
        "create function ledger.steal() returns void language sql as ''",
        ["function ledger.steal() is none of the migrations'"],
    ),
    "overload": (
        "create function ledger.health(x text) returns void language sql as ''",
        ["function ledger.health(text) is none of the migrations'"],
    ),
    "trigger-off": (
        "alter table ledger.entries disable trigger entries_are_permanent",
        ["trigger entries_are_permanent of table ledger.entries has another definition"],
    ),
    "no-trigger": (
        "drop trigger entries_are_permanent on ledger.entries",
        ["trigger entries_are_permanent of table ledger.entries is missing"],
    ),
    "another-trigger": (
        "create trigger extra before insert on ledger.entries "
        "for each row execute function ledger_internal.forbid_mutation()",
        ["trigger extra of table ledger.entries is none of the migrations'"],
    ),
    "foreign-key-off": (
        "alter table ledger.group_total_history disable trigger all",
        [
            "constraint group_total_history_of_an_entry of table ledger.group_total_history has another definition",
            "trigger group_total_history_is_permanent of table ledger.group_total_history has another definition",
        ],
    ),
    "no-constraint": (
        "alter table ledger.entries drop constraint entries_are_valid",
        ["constraint entries_are_valid of table ledger.entries is missing"],
    ),
    "constraint-not-valid": (
        "alter table ledger.groups drop constraint groups_name_not_empty, "
        "add constraint groups_name_not_empty check (name <> '') not valid",
        [
            "constraint groups_name_not_empty of table ledger.groups has another definition: CHECK ((name <> "
            "''::text)) NOT VALID; it should be: CHECK ((name <> ''::text))"
        ],
    ),
    "null-allowed": (
        "alter table ledger.entries alter column amount drop not null",
        ["table ledger.entries has another column amount: 6 numeric(78,0); it should be: 6 numeric(78,0) not null"],
    ),
    "default": (
        "alter table ledger.entries alter column xid drop default",
        ["table ledger.entries has another column xid"],
    ),
    "type": (
        "alter table ledger.group_total_shards alter column total type numeric(90, 0)",
        ["table ledger.group_total_shards has another column total"],
    ),
    "another-column": (
        "alter table ledger.entries add column note text",
        ["table ledger.entries has column note (13 text), which is none of the migrations'"],
    ),
    "no-column": (
        "alter table ledger.api_keys drop column revoked_at cascade",
        ["table ledger.api_keys has no column revoked_at (7 timestamp with time zone)"],
    ),
    "column-grant": (
        "grant update (amount) on ledger.participants to ledger_reader",
        ["table ledger.participants has another column amount"],
    ),
    "no-index": ("drop index ledger.entries_others_by_kind", ["index ledger.entries_others_by_kind is missing"]),
    "invalid-index": (
        "update pg_index set indisvalid = false where indexrelid = 'ledger.entries_others_by_kind'::regclass",
        ["index ledger.entries_others_by_kind has another definition"],
    ),
    "another-index": (
        "create index extra on ledger.entries (amount)",
        ["index ledger.extra is none of the migrations'"],
    ),
    "unlogged": (
        "alter table ledger.group_total_history set unlogged",
        ["table ledger.group_total_history has another kind"],
    ),
    "table-grant": (
        "grant select on ledger.api_keys to ledger_reader",
        ["table ledger.api_keys has another grants"],
    ),
    "table-owner": (
        "alter table ledger.feeds owner to current_user",
        ["table ledger.feeds has another grants", "table ledger.feeds has another owner"],
    ),
    "another-table": ("create table ledger.mine ()", ["table ledger.mine is none of the migrations'"]),
    "view": (
        "create or replace view ledger.current_groups as select g.name, g.id from ledger.groups as g",
        ["view ledger.current_groups has another definition"],
    ),
    "view-grant": (
        "revoke select on ledger.current_groups from ledger_reader",
        ["view ledger.current_groups has another grants"],
    ),
    "view-of-its-reader": (
        "alter view ledger.current_groups set (security_invoker = true)",
        ["view ledger.current_groups has another definition"],
    ),
    "rule": (
        "create rule nothing as on insert to ledger.entries do instead nothing",
        ["rule nothing of table ledger.entries is none of the migrations'"],
    ),
    "policy": (
        "create policy mine on ledger.entries using (true)",
        ["policy mine of table ledger.entries is none of the migrations'"],
    ),
    "row-security": ("alter table ledger.entries enable row level security", ["table ledger.entries has another kind"]),
    "sequence": ("alter sequence ledger.entries_id_seq cycle", ["sequence ledger.entries_id_seq has another numbers"]),
    "sequence-cache": (
        "alter sequence ledger.entries_id_seq cache 50",
        ["sequence ledger.entries_id_seq has another numbers"],
    ),
    "inheritance": (
        "create table public.more_entries () inherits (ledger.entries)",
        ["table ledger.entries has inherited by (public.more_entries), which is none of the migrations'"],
    ),
    "type-attribute": (
        "alter type ledger.principal add attribute secret text",
        ["type ledger.principal has column secret (5 text), which is none of the migrations'"],
    ),
    "another-type": ("create type ledger.colour as enum ('red')", ["type ledger.colour is none of the migrations'"]),
    "operator": (
        "create operator ledger.= (leftarg = bigint, rightarg = bigint, function = int8ne)",
        ["operator ledger.=(bigint,bigint) is none of the migrations'"],
    ),
    "schema-grant": ("grant create on schema ledger to ledger_api", ["schema ledger has another grants"]),
    "role": (
        "alter role ledger_owner superuser",
        ["role ledger_owner has another attributes: superuser; it should be: "],
    ),
    "membership": (
        "grant ledger_owner to ledger_api",
        ["role ledger_api has member of ledger_owner (), which is none of the migrations'"],
    ),
    "default-privileges": (
        "alter default privileges for role ledger_owner grant execute on functions to ledger_reader",
        ["default privileges is none of the migrations'"],
    ),
}


@pytest.fixture
def conninfo(template, empty: Database) -> str:
    return empty.url(embedded.ADMIN)


def test_the_manifest_equals_the_migrated_schema(owner):
    assert schema.describe(schema.shipped(), schema.catalog(owner)) == [], "db/schema.txt is stale: run `make manifest`"
    assert "".join(f"{line}\n" for line in schema.lines(schema.shipped())) == schema.MANIFEST.read_text()


@pytest.mark.parametrize("change", CHANGES)
def test_each_difference_is_named(owner, change):
    statement, words = CHANGES[change]
    with owner.transaction(force_rollback=True):
        owner.execute(statement)
        found = schema.describe(schema.shipped(), schema.catalog(owner))
    assert len(found) == len(words), found
    for line, beginning in zip(found, words, strict=True):
        assert line == beginning or line.startswith(f"{beginning}: ") or line.startswith(beginning + "; ")


def test_roles_and_settings_of_the_site_are_no_difference(owner):
    owner.execute("set local search_path = ledger, public")
    owner.execute("set local quote_all_identifiers = on")
    owner.execute("alter table ledger.entries set (autovacuum_enabled = off, fillfactor = 90)")
    owner.execute("alter index ledger.entries_pkey set (fillfactor = 80)")
    owner.execute("create statistics ledger.senders on group_id, from_id from ledger.entries")
    owner.execute("create role auditor in role ledger_reader")
    owner.execute("grant pg_read_all_stats to ledger_owner")
    owner.execute("grant ledger_owner to ledger_test_deployer with admin option")
    owner.execute("comment on table ledger.entries is 'The books.'")
    owner.execute("create table public.entries ()")
    assert schema.describe(schema.shipped(), schema.catalog(owner)) == []


def test_every_migrating_role_makes_the_same_schema(template, empty):
    roles = "ledger_owner, ledger_api, ledger_bridge, ledger_reader"
    with psycopg.connect(empty.url(embedded.ADMIN), autocommit=True) as admin:
        database = sql.Identifier(admin.info.dbname)
        admin.execute(sql.SQL("alter database {} owner to ledger_test_deployer").format(database))
        admin.execute(f"grant {roles} to ledger_test_deployer with admin option")
        try:
            migrate.migrate(empty.url("ledger_test_deployer"))
            with psycopg.connect(empty.url("ledger_test_deployer"), autocommit=True) as connection:
                assert schema.differences(connection) == ([], None)
        finally:
            # Roles belong to the cluster, which other tests use as well.
            admin.execute(f"revoke {roles} from ledger_test_deployer")


def test_a_database_of_another_release_is_not_compared(conninfo):
    apply_before(conninfo, NAMES[-1])
    with psycopg.connect(conninfo, autocommit=True) as connection:
        assert schema.differences(connection) == ([], f"the database lacks {NAMES[-1]}")
        migrate.migrate(conninfo)
        assert schema.differences(connection) == ([], None)
        # Of another application.
        connection.execute("insert into _yoyo_migration (migration_hash, migration_id) values ('y', 'other-0001')")
        connection.execute("insert into _yoyo_migration (migration_hash, migration_id) values ('z', '0001.initial')")
        assert schema.differences(connection) == ([], None)
        connection.execute("insert into _yoyo_migration (migration_hash, migration_id) values ('x', '9999.x')")
        assert schema.differences(connection) == ([], "the database is of another release, with 9999.x")
        connection.execute("drop table _yoyo_migration")
        assert schema.differences(connection) == ([], "it is not noted which migrations were applied")


def test_nothing_is_compared_while_a_migration_is_under_way(migrated, monkeypatch):
    conninfo = migrated.url(migrated.admin)
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", 1)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        with migrate.locked(conninfo):
            assert schema.differences(connection) == ([], "a migration is under way")
        monkeypatch.undo()
        assert schema.differences(connection) == ([], None)
        # It holds nothing that a migration would wait for.
        assert one(connection, "select count(*) from pg_locks where locktype = 'advisory'") == (0,)


def test_compares_nothing_where_the_role_may_not_read_the_marks(migrated):
    conninfo = migrated.url(migrated.admin)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("set role ledger_test_stranger")
        words, reason = schema.differences(connection)
    assert words == []
    assert reason is not None
    assert "may not read" in reason
