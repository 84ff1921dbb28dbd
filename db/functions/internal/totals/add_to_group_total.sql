-- Add a join or a deposit to a group's total, or subtract an exit.
create or replace function ledger_internal.add_to_group_total(
  group_id   bigint,
  amount     numeric,
  not_before timestamptz
) returns ledger.group_total_shards
language plpgsql volatile
as $$
declare
  shard ledger.group_total_shards;
begin
  -- trunc() removes the decimal places of a deposit written as 100.0; otherwise every later total would show them.
  -- A session always takes the same shard of the eight, so a transaction of many joins, deposits and exits locks only one of
  -- a group's shards. One that locks several groups' shards, or a shard and then participants, can deadlock with another one
  -- and is repeated. A shard's times ascend even if the clock goes back.
  update ledger.group_total_shards as c
  set
    total = c.total + trunc(add_to_group_total.amount),
    changed_at = greatest(clock_timestamp(), c.changed_at, add_to_group_total.not_before)
  where c.group_id = add_to_group_total.group_id
    and c.slot = pg_backend_pid() % 8
  returning c.* into shard;
  if not found then
    raise exception 'group % has lost a shard', group_id;
  end if;
  return shard;
end
$$;

alter function ledger_internal.add_to_group_total owner to ledger_owner;
comment on function ledger_internal.add_to_group_total is
  'Add an amount, negative for an exit, to one of the shards that make up the group''s total; its changed_at, not below not_before, is the time of the movement.';
revoke execute on function ledger_internal.add_to_group_total from public;
