-- Find a group's total at a past moment.
create or replace function ledger.past_total(
  group_id bigint,
  moment   ledger.history_moment
) returns numeric
language sql stable
as $$
  -- One look-up in an index for each of the counters.
  select coalesce(sum(l.total), 0)
  from ledger.groups as g
  cross join generate_series(0, 7) as s (slot)
  left join lateral (
    select t.total
    from ledger.group_totals as t
    where t.group_id = g.id
      and t.slot = s.slot
      and (t.created_at, t.entry_id) <= ((moment).created_at, (moment).id)
    order by t.created_at desc, t.entry_id desc
    limit 1
  ) as l on true
  where g.id = past_total.group_id
    and g.created_at <= (moment).created_at
    and (g.closed_at is null or g.closed_at >= (moment).created_at)
  having count(*) > 0
$$;

alter function ledger.past_total owner to ledger_owner;
comment on function ledger.past_total is
  'What the participants present in a group held together at a moment; null when it did not exist then.';
revoke execute on function ledger.past_total from public;
