"""The owner of everything in the ledger's schemas, and the rights of each role, from the catalog."""

import pytest

from tests.catalog.published import BRIDGE, FUNCTIONS, READ_VIEWS, SHARED

# Everything in the schemas, and the schemas, with owner and rights; the default rights where none are stated.
OBJECTS = """
select 'schema' as kind, nspname::text as name, nspowner as owner, coalesce(nspacl, acldefault('n', nspowner)) as rights
from pg_namespace where nspname in ('ledger', 'ledger_internal')
union all
select 'relation', relname, relowner,
  coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))
from pg_class where relnamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace) and relkind <> 'i'
union all
select 'index', relname, relowner, null
from pg_class where relnamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace) and relkind = 'i'
union all
select 'column', c.relname || '.' || a.attname, c.relowner, a.attacl
from pg_attribute as a join pg_class as c on c.oid = a.attrelid
where c.relnamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace) and a.attacl is not null
union all
select 'function', proname, proowner, coalesce(proacl, acldefault('f', proowner))
from pg_proc where pronamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
union all
-- A type's default rights let everybody name it, which is of no use without the schema.
select 'type', typname, typowner, typacl
from pg_type where typnamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
"""

RIGHTS = f"""
select o.kind, o.name, r.privilege_type
from ({OBJECTS}) as o
cross join aclexplode(o.rights) as r
where r.grantee = case when %(role)s = 'public' then 0 else to_regrole(%(role)s)::oid end
order by o.kind, o.name, r.privilege_type
"""


def rights(owner, role: str) -> list[tuple[str, str, str]]:
    return owner.execute(RIGHTS, {"role": role}).fetchall()


def test_everything_belongs_to_the_owner(owner):
    objects = owner.execute(f"select o.kind, o.name, pg_get_userbyid(o.owner) from ({OBJECTS}) as o").fetchall()
    assert {kind for kind, _, _ in objects} >= {"schema", "relation", "index", "function", "type"}
    assert [entry for entry in objects if entry[2] != "ledger_owner"] == []


@pytest.mark.parametrize("role", ["ledger_owner", "ledger_api", "ledger_bridge", "ledger_reader"])
def test_the_roles_neither_log_in_nor_have_powers(owner, role):
    (powers,) = owner.execute(
        """
        select array[rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls]
        from pg_roles where rolname = %s
        """,
        [role],
    ).fetchone()
    assert not any(powers)


def test_no_role_is_a_member_of_the_owner_and_the_roles_of_none(owner):
    members = owner.execute(
        """
        select roleid::regrole::text, member::regrole::text
        from pg_auth_members
        where roleid = 'ledger_owner'::regrole and not (select rolsuper from pg_roles where oid = member)
          or member = any ('{ledger_owner,ledger_api,ledger_bridge,ledger_reader}'::regrole[])
        """
    ).fetchall()
    assert members == []


def test_nothing_is_granted_to_public(owner):
    assert rights(owner, "public") == []


def test_ledger_api_may_execute_the_published_functions_and_nothing_else(owner):
    assert rights(owner, "ledger_api") == [
        *(("function", name, "EXECUTE") for name in sorted(FUNCTIONS)),
        ("schema", "ledger", "USAGE"),
    ]


def test_ledger_bridge_may_execute_its_functions_and_some_that_read_and_nothing_else(owner):
    assert {name for name in SHARED if not FUNCTIONS[name][2]} == set()
    assert rights(owner, "ledger_bridge") == [
        *(("function", name, "EXECUTE") for name in sorted([*BRIDGE, *SHARED])),
        ("schema", "ledger", "USAGE"),
    ]


def test_ledger_reader_may_select_from_the_read_views_and_nothing_else(owner):
    assert rights(owner, "ledger_reader") == [
        *(("relation", name, "SELECT") for name in sorted(READ_VIEWS)),
        ("schema", "ledger", "USAGE"),
    ]


def test_only_the_four_roles_have_rights(owner):
    grantees = owner.execute(
        f"""
        select distinct pg_get_userbyid(r.grantee)::text
        from ({OBJECTS}) as o cross join aclexplode(o.rights) as r
        order by 1
        """
    ).fetchall()
    assert grantees == [("ledger_api",), ("ledger_bridge",), ("ledger_owner",), ("ledger_reader",)]


def test_no_role_can_grant_its_rights_to_others(owner):
    query = f"select o.name from ({OBJECTS}) as o cross join aclexplode(o.rights) as r where r.is_grantable"
    assert owner.execute(query).fetchall() == []


@pytest.mark.parametrize("role", ["ledger_service", "ledger_test_bridge", "ledger_test_stranger"])
def test_a_login_has_no_right_on_any_relation(owner, role):
    assert (
        owner.execute(
            """
            select c.relname
            from pg_class as c
            where c.relnamespace in ('ledger'::regnamespace, 'ledger_internal'::regnamespace)
              and case
                when c.relkind in ('r', 'p', 'v', 'm')
                then has_table_privilege(%(role)s, c.oid, 'select, insert, update, delete, truncate, references')
                  or has_any_column_privilege(%(role)s, c.oid, 'select, insert, update, references')
                when c.relkind = 'S'
                then has_sequence_privilege(%(role)s, c.oid, 'usage, select, update')
              end
            """,
            {"role": role},
        ).fetchall()
        == []
    )
    for right in ("ledger', 'create", "ledger_internal', 'create", "ledger_internal', 'usage"):
        assert owner.execute(f"select has_schema_privilege(%s, '{right}')", [role]).fetchone() == (False,)
