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
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'join'
    order by e.created_at, e.id
    limit 1
  ) as first on true
  left join lateral (
    select
      e.created_at,
      e.xid
    from ledger.entries as e
    where e.group_id = g.id
      and e.kind = 'exit'
    order by e.created_at desc, e.id desc
    limit 1
  ) as last on true
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
    select 'group time', format('was opened at %s, and first joined at %s', g.created_at, first.created_at)
    where g.created_at > b.latest
      or g.created_at = '-infinity'
      -- Until entries had their transaction's number, a clock that was set back showed in their times.
      or (g.created_at > first.created_at and first.xid <> '0')
    union all
    select
      'group time',
      format('was opened at %s and removed at %s, and last left at %s', g.created_at, g.closed_at, last.created_at)
    where g.closed_at > b.latest
      or g.closed_at < g.created_at
      or (g.closed_at < last.created_at and last.xid <> '0')
  ) as f (kind, detail)
  union all
  -- Groups are numbered nearly without gaps, so there is little to look through.
  select
    o.group_id,
    null,
    null,
    'group',
    format('there is no such group, and it has %s', string_agg(format('%s: %s', o.name, o.rows), ', ' order by o.name))
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
  cross join lateral (
    select p.group_id, 'participants', count(*)
    from ledger.participants as p
    where p.group_id > gap.before
      and p.group_id <= gap.upto
    group by p.group_id
    union all
    select e.group_id, 'entries', count(*)
    from ledger.entries as e
    where e.group_id > gap.before
      and e.group_id <= gap.upto
    group by e.group_id
    union all
    select s.group_id, 'settlements', count(*)
    from ledger.settlements as s
    where s.group_id > gap.before
      and s.group_id <= gap.upto
    group by s.group_id
    union all
    select c.group_id, 'shards', count(*)
    from ledger.group_total_shards as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
    union all
    select t.group_id, 'totals', count(*)
    from ledger.group_total_history as t
    where t.group_id > gap.before
      and t.group_id <= gap.upto
    group by t.group_id
    union all
    select c.group_id, 'changes of names', count(*)
    from ledger.name_changes as c
    where c.group_id > gap.before
      and c.group_id <= gap.upto
    group by c.group_id
    union all
    select k.group_id, 'idempotency keys', count(*)
    from ledger.idempotency_keys as k
    where k.group_id > gap.before
      and k.group_id <= gap.upto
      -- Those of requests that created a group.
      and k.group_id <> 0
    group by k.group_id
  ) as o (group_id, name, rows)
  where gap.before < gap.upto
  group by o.group_id
$$;

alter function ledger_internal.verify_groups owner to ledger_owner;
comment on function ledger_internal.verify_groups is
  'The discrepancies of the groups whose ids are above after and, where it is given, not above upto: their rows, and what belongs to a group of such an id that is not there. For the owner.';
revoke execute on function ledger_internal.verify_groups from public;
