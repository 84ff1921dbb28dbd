-- Remove an empty group; its record stays.
create or replace function ledger.remove_group(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.remove_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request text[] := array['remove_group'];
  removed remove_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );

  removed := claim_idempotency_key(group_id, idempotency_key, request, removed);
  if removed.replayed then
    return removed;
  end if;

  -- Joins lock this row in share mode: once it is locked here, no join is under way and none can begin.
  perform from groups as g
  where g.id = remove_group.group_id
    and g.closed_at is null
  for update;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;

  -- Each join, deposit and exit updates a shard. Locking them waits for exits under way, and, above READ COMMITTED, fails
  -- with 40001 where a join has committed that this snapshot does not show.
  perform from group_total_shards as c
  where c.group_id = remove_group.group_id
  order by c.slot
  for update;

  if exists (
    select from current_participants as p
    where p.group_id = remove_group.group_id
  ) then
    raise exception using
      errcode = 'LG004',
      column  = 'group_id',
      message = format('group %s has participants', group_id),
      detail  = 'group_id: participants are present',
      hint    = 'Let every participant exit first, with ledger.exit_group.';
  end if;

  if (select v.closed_at is null from vaults as v where v.group_id = remove_group.group_id) then
    perform refuse_linked(group_id, 'group_id', 'Close the group at its vault first: ledger vault close.');
  end if;

  update groups as g
  set closed_at = greatest(
    clock_timestamp(),
    (select max(c.changed_at) from group_total_shards as c where c.group_id = remove_group.group_id)
  )
  where g.id = remove_group.group_id;

  removed.replayed := false;
  perform store_answer(group_id, idempotency_key, request, removed);
  return removed;
end
$$;

alter function ledger.remove_group owner to ledger_owner;
comment on function ledger.remove_group is
  'Remove a group without participants; its name is free again and its record stays. One with a vault is closed there first. Raises LG001, LG002, LG004, LG006, LG012.';
revoke execute on function ledger.remove_group from public;
grant execute on function ledger.remove_group to ledger_api;
