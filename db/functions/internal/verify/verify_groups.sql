-- Find the discrepancies of a range of groups, and rows whose group is missing.
create or replace function ledger_internal.verify_groups(
  after bigint,
  upto  bigint
) returns setof ledger.discrepancy
language sql stable
as $$
  with looked_at as materialized (
    select
      g.*,
      count(*) over (partition by g.id) as times,
      lag(g.id, 1, verify_groups.after) over (order by g.id) as before
    from ledger.groups as g
    where g.id > verify_groups.after
      and g.id <= coalesce(verify_groups.upto, 9223372036854775807)
  )
  select
    g.id,
    null::bigint,
    null::bigint,
    f.kind,
    f.detail
  from looked_at as g
  cross join ledger_internal.verify_bounds() as b
  cross join lateral (
    select 'group id', format('%s groups have it', g.times)
    where g.times > 1
    union all
    select 'group id', 'it is below 1'
    where g.id < 1
    union all
    select 'sequence', 'it will give ids again that are in use'
    where g.id > (select s.last_value - (not s.is_called)::integer from ledger.groups_id_seq as s)
    union all
    select 'name', 'it is empty'
    where g.name = ''
    union all
    select 'name', 'another group that exists has it'
    where g.closed_at is null
      and exists (
        select from ledger.groups as o
        where o.name = g.name collate "C"
          and o.closed_at is null
          and o.id <> g.id
      )
    union all
    select
      t.kind,
      t.detail
    from ledger_internal.group_time_discrepancies(g.id, g.created_at, g.closed_at, b.latest) as t
  ) as f (kind, detail)
  union all
  -- Groups are numbered nearly without gaps, so there is little to look through.
  select o.*
  from (
    select
      l.before,
      l.id - 1 as upto
    from looked_at as l
    union all
    select
      coalesce(max(l.id), verify_groups.after),
      coalesce(verify_groups.upto, 9223372036854775807)
    from looked_at as l
  ) as gap
  cross join lateral ledger_internal.orphan_discrepancies(gap.before, gap.upto) as o
  where gap.before < gap.upto
$$;

alter function ledger_internal.verify_groups owner to ledger_owner;
comment on function ledger_internal.verify_groups is
  'The discrepancies of the groups whose ids are above after and, where it is given, not above upto: their rows, and what belongs to a group of such an id that is not there. For the owner.';
revoke execute on function ledger_internal.verify_groups from public;
