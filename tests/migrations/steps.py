"""Helpers of the tests of migrations: single steps through yoyo, a fingerprint of the schema, and some data."""

import re
import subprocess
import sys
from pathlib import Path

import psycopg
from psycopg.types.json import Jsonb
from yoyo.migrations import Migration

from api.postgres import migrate

ROOT = Path(__file__).resolve().parents[2]
NAMES = [migration.id for migration in migrate.shipped()]
# The example that follows them, which add_migration() writes.
EXAMPLE = f"{len(NAMES) + 1:04}.example"
RELEASE_0_1 = Path(__file__).parent / "release-0.1"

# Everything about schema ledger that a migration can set, identifiers of the catalog's own left out.
FINGERPRINT = {
    "schemas": """
        select n.nspname, n.nspowner::regrole::text, acl(n.nspacl, 'n', n.nspowner),
          obj_description(n.oid, 'pg_namespace')
        from pg_namespace as n
        where n.nspname in ('ledger', 'ledger_internal')
    """,
    "relations": """
        select c.relname, c.relkind::text, c.relpersistence::text, c.relowner::regrole::text, c.reloptions,
          acl(c.relacl, case c.relkind when 'S' then 's' else 'r' end, c.relowner),
          obj_description(c.oid, 'pg_class'), c.relrowsecurity,
          case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end
        from pg_class as c
        where c.relnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    """,
    "columns": """
        select c.relname, row_number() over (partition by c.oid order by a.attnum), a.attname,
          format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text, a.attgenerated::text,
          a.attcollation::regcollation::text, a.attacl::text, pg_get_expr(d.adbin, d.adrelid),
          col_description(c.oid, a.attnum)
        from pg_class as c
        join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    """,
    "sequences": """
        select c.relname, s.seqtypid::regtype::text, s.seqstart, s.seqincrement, s.seqmax, s.seqmin, s.seqcycle
        from pg_class as c
        join pg_sequence as s on s.seqrelid = c.oid
        where c.relnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    """,
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated,
          obj_description(oid, 'pg_constraint')
        from pg_constraint
        where connamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    """,
    "indexes": """
        select pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisclustered
        from pg_index as i
        join pg_class as c on c.oid = i.indexrelid
        where c.relnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    """,
    "triggers": """
        select pg_get_triggerdef(t.oid), t.tgenabled::text, obj_description(t.oid, 'pg_trigger')
        from pg_trigger as t
        join pg_class as c on c.oid = t.tgrelid
        where c.relnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal')) and not t.tgisinternal
    """,
    "policies": "select * from pg_policies where schemaname in ('ledger', 'ledger_internal')",
    "functions": """
        select p.proname, pg_get_function_identity_arguments(p.oid), p.prokind::text, p.proowner::regrole::text,
          acl(p.proacl, 'f', p.proowner), obj_description(p.oid, 'pg_proc'),
          case when p.prokind <> 'a' then pg_get_functiondef(p.oid) end
        from pg_proc as p
        where p.pronamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    """,
    "types": """
        select t.typname, t.typtype::text, t.typowner::regrole::text, acl(t.typacl, 'T', t.typowner),
          obj_description(t.oid, 'pg_type')
        from pg_type as t
        where t.typnamespace in (to_regnamespace('ledger'), to_regnamespace('ledger_internal'))
    """,
    "default privileges": """
        select d.defaclrole::regrole::text, d.defaclnamespace::regnamespace::text, d.defaclobjtype::text,
          d.defaclacl::text
        from pg_default_acl as d
    """,
}

# Rights in an order of their own; none stated are the default ones.
ACL = """
create or replace function pg_temp.acl(rights aclitem[], kind text, owner oid) returns text[]
language sql
as $$
  select array_agg(item::text order by item::text)
  from unnest(coalesce(rights, acldefault(kind::"char", owner))) as item
$$
"""


def fingerprint(database: psycopg.Connection) -> dict[str, list[tuple]]:
    """The catalog of schema ledger, as rows that can be compared."""
    database.execute(ACL)
    return {
        kind: sorted(database.execute(re.sub(r"\bacl\(", "pg_temp.acl(", query)).fetchall(), key=repr)
        for kind, query in FINGERPRINT.items()
    }


def fingerprint_of(conninfo: str) -> dict[str, list[tuple]]:
    with psycopg.connect(conninfo, autocommit=True) as database:
        return fingerprint(database)


def marked(conninfo: str) -> list[str]:
    """The migrations that yoyo has marked as applied."""
    with psycopg.connect(conninfo) as database:
        return [row[0] for row in database.execute("select migration_id from _yoyo_migration order by migration_id")]


def locks(conninfo: str) -> int:
    """How many rows yoyo's lock table has."""
    with psycopg.connect(conninfo) as database:
        return database.execute("select count(*) from yoyo_lock").fetchone()[0]


def migration(name: str) -> Migration:
    (found,) = (migration for migration in migrate.shipped() if migration.id == name)
    return found


def apply_before(conninfo: str, name: str) -> None:
    """Apply every migration that comes before this one."""
    with migrate.locked(conninfo) as backend:
        migrations = migrate.shipped()
        place = [migration.id for migration in migrations].index(name)
        backend.apply_migrations(backend.to_apply(migrations[:place]))


def apply(conninfo: str, name: str) -> None:
    with migrate.locked(conninfo) as backend:
        backend.apply_one(migration(name))


def roll_back(conninfo: str, name: str) -> None:
    with migrate.locked(conninfo) as backend:
        backend.rollback_one(migration(name))


def run(conninfo: str, name: str, direction: str) -> None:
    """Run a migration ("apply") or its roll-back ("rollback") without a mark, as in a run that is killed after it."""
    with migrate.Backend(conninfo, "test") as backend:
        migration(name).process_steps(backend, direction)


def put_data_in(conninfo: str) -> None:
    """Fill two groups by every kind of movement, and remove a third."""
    with psycopg.connect(conninfo, autocommit=True) as database:
        for name in ("ETH", "DAI", "gone"):
            database.execute("select ledger.create_group(%s)", [name])
        database.execute("select ledger.remove_group(3)")
        database.execute("select ledger.create_api_key('shop', 'transact', 1)")
        database.execute("select ledger.revoke_api_key(1)")
        database.execute("select ledger.rename_group(1, 'ETC')")
        for group in (1, 2):
            participants = [
                database.execute(
                    "select id from ledger.join_group(%s, %s, 2::numeric ^ 200)", [group, name]
                ).fetchone()[0]
                for name in ("alice", "bob", "carol")
            ]
            database.execute("select ledger.transfer(%s, %s, %s, 5)", [group, *participants[:2]])
            database.execute("select ledger.rename_participant(%s, %s, 'caroline')", [group, participants[2]])
            database.execute("select ledger.exit_group(%s, %s)", [group, participants[1]])
            keyed = "select ledger.transfer(%s, %s, %s, 1, idempotency_key => 'key')"
            database.execute(keyed, [group, participants[0], participants[2]])
            line = {"from": participants[0], "to": participants[2], "amount": 2, "metadata": {"order": 17}}
            database.execute("select ledger.transfer_all(%s, %s)", [group, Jsonb([line, line])])
            query = "select id, from_id from ledger.list_entries(%s, newest_first => true, kind => %s, max_rows => 1)"
            ((paid, _),) = database.execute(query, [group, "transfer"]).fetchall()
            database.execute("select ledger.reverse_transfer(%s, %s)", [group, paid])
            ((exited, _),) = database.execute(query, [group, "exit"]).fetchall()
            database.execute("select ledger.settle_exit(%s, %s, '0x5f')", [group, exited])


KEYS = """
select
  k.group_id,
  k.key,
  k.operation,
  k.fingerprint,
  coalesce(k.answer, to_json(ledger_internal.transfer_answer(k.group_id, k.entry_id))) as answer,
  k.created_at
from ledger.idempotency_keys as k
"""


def contents(conninfo: str) -> dict[str, list[dict]]:
    """Every value in every table of schema ledger, and how far each sequence has got.

    When the feed began is left out: it does so with the migration. An idempotency key of a transfer has its answer,
    whether this is stored or made of an entry and of the places of names among the entries.
    """
    with psycopg.connect(conninfo, autocommit=True) as database:
        relations = database.execute(
            """
            select c.relname from pg_class as c
            where c.relnamespace = to_regnamespace('ledger') and c.relkind in ('r', 'p', 'S')
            """
        ).fetchall()
        query = "select to_regprocedure('ledger_internal.transfer_answer(bigint, bigint)') is not null"
        has_entries = database.execute(query).fetchone() == (True,)
        return {
            # As text: exact, and the same for every type.
            name: [
                row[0]
                for row in database.execute(
                    f"""
                    select (
                      select jsonb_object_agg(key, value) from jsonb_each_text(to_jsonb(r))
                      where key not in ('log_cnt', 'began_at', 'before_entry')
                    )
                    from ({KEYS if name == "idempotency_keys" and has_entries else f"select * from ledger.{name}"}) as r
                    """
                )
            ]
            for (name,) in relations
        }


def lost(before: dict[str, list[dict]], after: dict[str, list[dict]]) -> list[tuple[str, dict]]:
    """Return the rows that lost a value; a new column or table is no loss."""
    return [
        (name, row)
        for name, rows in before.items()
        for row in rows
        if not any({key: found.get(key) for key in row} == row for found in after.get(name, []))
    ]


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own that runs a script in the repository's root."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
