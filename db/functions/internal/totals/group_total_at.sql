-- Compute a group's total at a past moment.
create or replace function ledger_internal.group_total_at(
  group_id bigint,
  moment   ledger_internal.history_position
) returns numeric
language sql stable
as $$
  -- One look-up in an index for each of the shards.
  select coalesce(sum(l.total), 0)
  from ledger.groups as g
  cross join generate_series(0, 7) as s (slot)
  left join lateral (
    select t.total
    from ledger.group_total_history as t
    where t.group_id = g.id
      and t.slot = s.slot
      and (t.created_at, t.entry_id) <= ((moment).created_at, (moment).id)
    order by t.created_at desc, t.entry_id desc
    limit 1
  ) as l on true
  where g.id = group_total_at.group_id
    and g.created_at <= (moment).created_at
    and (g.closed_at is null or g.closed_at >= (moment).created_at)
  having count(*) > 0
$$;

alter function ledger_internal.group_total_at owner to ledger_owner;
comment on function ledger_internal.group_total_at is
  'What the participants present in a group held together at a moment; null when it did not exist then.';
revoke execute on function ledger_internal.group_total_at from public;
