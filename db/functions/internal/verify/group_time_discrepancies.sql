-- Compare the times of a group with its first join and its last exit.
create or replace function ledger_internal.group_time_discrepancies(
  id         bigint,
  created_at timestamptz,
  closed_at  timestamptz,
  latest     timestamptz
) returns setof ledger.discrepancy
language sql stable
as $$
  select
    g.id,
    null::bigint,
    null::bigint,
    'group time',
    f.detail
  from (
    values (group_time_discrepancies.id, group_time_discrepancies.created_at, group_time_discrepancies.closed_at)
  ) as g (id, created_at, closed_at)
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
    select format('was opened at %s, and first joined at %s', g.created_at, first.created_at)
    where g.created_at > group_time_discrepancies.latest
      or g.created_at = '-infinity'
      -- Until entries had their transaction's number, a clock that was set back showed in their times.
      or (g.created_at > first.created_at and first.xid <> '0')
    union all
    select format('was opened at %s and removed at %s, and last left at %s', g.created_at, g.closed_at, last.created_at)
    where g.closed_at > group_time_discrepancies.latest
      or g.closed_at < g.created_at
      or (g.closed_at < last.created_at and last.xid <> '0')
  ) as f (detail)
$$;

alter function ledger_internal.group_time_discrepancies owner to ledger_owner;
comment on function ledger_internal.group_time_discrepancies is
  'The discrepancies of the times of a group: when it was opened and removed, its first join, its last exit, and the latest time that a clock may show. For verify_groups.';
revoke execute on function ledger_internal.group_time_discrepancies from public;
