-- Add a deposit to a group's total, or take an exit's amount off.
create or replace function ledger.count_in_total(
  group_id   bigint,
  amount     numeric,
  not_before timestamptz
) returns ledger.group_counters
language plpgsql volatile
as $$
declare
  counter ledger.group_counters;
begin
  -- trunc() takes the zeros off a deposit spelled 100.0, which would show in every total after it.
  -- A session always takes the same one of the eight counters, so a transaction of many joins and exits holds one and
  -- cannot deadlock with another over two. Its times ascend, also when the clock does not.
  update ledger.group_counters as c
  set
    total = c.total + trunc(count_in_total.amount),
    changed_at = greatest(clock_timestamp(), c.changed_at, count_in_total.not_before)
  where c.group_id = count_in_total.group_id
    and c.slot = pg_backend_pid() % 8
  returning c.* into counter;
  if not found then
    raise exception 'group % has lost a counter', group_id;
  end if;
  return counter;
end
$$;

alter function ledger.count_in_total owner to ledger_owner;
comment on function ledger.count_in_total is
  'Add an amount, negative for an exit, to one of the counters that make up the group''s total; its changed_at, not below not_before, is the time of the movement.';
revoke execute on function ledger.count_in_total from public;
