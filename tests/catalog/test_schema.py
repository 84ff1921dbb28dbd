"""Every visible object has a comment, and constraints, which errors show, are named as rules."""

import re


def test_every_visible_object_has_a_comment(owner):
    silent = owner.execute(
        """
        select 'schema', nspname from pg_namespace
        where nspname in ('ledger', 'ledger_internal') and coalesce(obj_description(oid, 'pg_namespace'), '') = ''
        union all
        select 'relation', relname from pg_class
        where relnamespace = 'ledger'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')
          and coalesce(obj_description(oid, 'pg_class'), '') = ''
        union all
        select 'column', c.relname || '.' || a.attname
        from pg_attribute as a join pg_class as c on c.oid = a.attrelid
        where c.relnamespace = 'ledger'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
          and a.attnum > 0 and not a.attisdropped and coalesce(col_description(c.oid, a.attnum), '') = ''
        union all
        select 'type', t.typname
        from pg_type as t left join pg_class as c on c.oid = t.typrelid
        where t.typnamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace) and t.typcategory <> 'A'
          and (c.oid is null or c.relkind = 'c') and coalesce(obj_description(t.oid, 'pg_type'), '') = ''
        union all
        select 'function', proname from pg_proc
        where pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
          and coalesce(obj_description(oid, 'pg_proc'), '') = ''
        """
    ).fetchall()
    assert silent == []


def test_constraints_are_named_as_rules(owner):
    names = owner.execute(
        """
        select
          case contypid when 0 then conrelid::regclass::text else contypid::regtype::text end,
          conname,
          contype::text
        from pg_constraint
        where connamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
          and contype <> 'n' -- which PostgreSQL names from version 18 on
        """
    ).fetchall()
    assert names
    for relation, name, kind in names:
        table = relation.removeprefix("ledger.")
        assert name.startswith(f"{table}_")
        assert name == f"{table}_pkey" or kind != "p"
        assert not re.search(r"_(check|fkey|key|excl|not_null)\d*$", name), name


def test_every_constraint_and_index_is_in_force(owner):
    assert owner.execute("select conname from pg_constraint where not convalidated").fetchall() == []
    assert owner.execute("select indexrelid::regclass from pg_index where not indisvalid").fetchall() == []


def test_every_table_is_keyed_by_its_group_first(owner):
    first = owner.execute(
        """
        select c.relname, a.attname
        from pg_constraint as k
        join pg_class as c on c.oid = k.conrelid
        join pg_attribute as a on a.attrelid = c.oid and a.attnum = k.conkey[1]
        where c.relnamespace = 'ledger'::regnamespace and k.contype in ('p', 'f')
          and c.relname not in ('groups', 'feeds', 'api_keys') -- which belong to no group
          and k.conname <> 'bridge_transactions_pkey' -- a nonce is that of a sender, whatever the group
        """
    ).fetchall()
    assert {column for _, column in first} == {"group_id"}
    assert {table for table, _ in first} == {
        *(
            "participants",
            "entries",
            "group_total_shards",
            "group_total_history",
            "settlements",
            "idempotency_keys",
            "name_changes",
            "checkpoints",
            "checkpoint_chunks",
            "vaults",
            "vault_deposits",
            "payouts",
            "publications",
            "exit_requests",
            "bridge_transactions",
            "adoptions",
            "unknown_roots",
        )
    }


def test_every_amount_is_an_exact_number(owner):
    types = owner.execute(
        """
        select c.relname, a.attname, a.atttypid::regtype::text
        from pg_attribute as a join pg_class as c on c.oid = a.attrelid
        where c.relnamespace = 'ledger'::regnamespace and a.attname ~ 'amount|total'
        """
    ).fetchall()
    assert types
    assert {kind for *_, kind in types} == {"numeric"}
    approximate = owner.execute(
        """
        select c.relname, a.attname
        from pg_attribute as a join pg_class as c on c.oid = a.attrelid
        where c.relnamespace = 'ledger'::regnamespace and a.atttypid in ('real'::regtype, 'double precision'::regtype)
        union all
        select p.proname, null
        from pg_proc as p cross join unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]) || p.prorettype) as t (oid)
        where p.pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
          and t.oid in ('real'::regtype, 'double precision'::regtype)
        """
    ).fetchall()
    assert approximate == []
