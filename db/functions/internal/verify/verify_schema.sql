-- Find rules of the schema that are not in force, in a database of any release.
create or replace function ledger_internal.verify_schema()
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
    select format('trigger %s of %s is disabled', coalesce(k.conname, t.tgname), t.tgrelid::regclass)
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    left join pg_constraint as k on k.oid = t.tgconstraint
    where c.relnamespace = 'ledger'::regnamespace
      and t.tgenabled not in ('O', 'A')
    union all
    select format('table %s can be rewritten: no trigger refuses it', p.name)
    from unnest(
      array[
        'entries', 'group_total_history', 'idempotency_keys', 'feeds', 'name_changes',
        'settlements', 'api_keys', 'groups', 'participants'
      ],
      array[true, true, true, true, true, false, false, false, false]
    ) as p (name, is_permanent)
    where not exists (
      select from pg_trigger as t
      where t.tgrelid = to_regclass('ledger.' || p.name)
        and t.tgfoid = to_regproc('ledger_internal.forbid_mutation')
        -- Before DELETE and TRUNCATE, a statement; for what is permanent before each UPDATE as well.
        and t.tgtype & 43 = 42
        and (not p.is_permanent or t.tgtype & 16 = 16)
        and t.tgqual is null
        and cardinality(t.tgattr::smallint[]) = 0
    )
    union all
    select format('table %s has no primary key', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
      and not exists (select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p')
    union all
    select format('constraint %s of %s is not validated', k.conname, k.conrelid::regclass)
    from pg_constraint as k
    where k.connamespace = 'ledger'::regnamespace
      and not k.convalidated
    union all
    select format('index %s is not valid', i.indexrelid::regclass)
    from pg_index as i
    join pg_class as c on c.oid = i.indexrelid
    where c.relnamespace = 'ledger'::regnamespace
      and not (i.indisvalid and i.indisready and i.indislive)
    union all
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
    union all
    select format('table %s has rule %s', r.ev_class::regclass, r.rulename)
    from pg_rewrite as r
    join pg_class as c on c.oid = r.ev_class
    where c.relnamespace = 'ledger'::regnamespace
      and c.relkind in ('r', 'p')
    union all
    select format('table %s has row security', c.oid::regclass)
    from pg_class as c
    where c.relnamespace = 'ledger'::regnamespace
      and (c.relrowsecurity or exists (select from pg_policy as p where p.polrelid = c.oid))
  ) as f (detail)
$$;

alter function ledger_internal.verify_schema owner to ledger_owner;
comment on function ledger_internal.verify_schema is
  'Rules of the schema that are not in force: triggers that are disabled or missing, constraints that are not validated, invalid indexes, other owners than ledger_owner, rights of PUBLIC, rights on ledger_internal. The command ledger verify compares every object with what the migrations made. For the owner.';
revoke execute on function ledger_internal.verify_schema from public;
