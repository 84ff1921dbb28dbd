-- Find rights that others than ledger_owner have.
create or replace function ledger_internal.rights_discrepancies()
returns setof ledger.discrepancy
language sql stable
as $$
  with schemas as (
    select n.* from pg_namespace as n where n.nspname in ('ledger', 'ledger_internal')
  ), objects (kind, name, owner, rights) as (
    select 'schema', s.nspname, s.nspowner, s.nspacl from schemas as s
    union all
    select 'relation', c.relname, c.relowner, c.relacl from pg_class as c where c.relnamespace in (select s.oid from schemas as s)
    union all
    select 'function', p.proname, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
  )
  select
    null::bigint,
    null::bigint,
    null::bigint,
    'schema',
    f.detail
  from (
    select format('%s %s belongs to %s', o.kind, o.name, o.owner::regrole)
    from objects as o
    where o.owner <> 'ledger_owner'::regrole
    union all
    select format(
      '%s is granted on %s %s to %s',
      a.privilege_type, o.kind, o.name, case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end
    )
    from objects as o
    cross join lateral aclexplode(o.rights) as a
    where a.grantee = 0
      or (o.kind = 'schema' and o.name = 'ledger_internal' and a.grantee <> o.owner)
    union all
    select format('function %s runs as its owner with the search_path of its caller', p.oid::regprocedure)
    from pg_proc as p
    where p.pronamespace in (select s.oid from schemas as s)
      and p.prosecdef
      and not exists (select from unnest(p.proconfig) as s (setting) where s.setting ~ '^search_path=ledger,.*pg_temp$')
  ) as f (detail)
$$;

alter function ledger_internal.rights_discrepancies owner to ledger_owner;
comment on function ledger_internal.rights_discrepancies is
  'Objects of the schemas that belong to another role than ledger_owner, rights of PUBLIC, rights on ledger_internal, and functions that run as their owner with the search_path of their caller. For verify_schema.';
revoke execute on function ledger_internal.rights_discrepancies from public;
