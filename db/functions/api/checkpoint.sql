-- Make a checkpoint of a group: commit to what each participant holds.
create or replace function ledger.checkpoint(
  group_id        bigint,
  idempotency_key text default null
) returns ledger.checkpoint_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  request text[] := array['checkpoint'];
  added   bigint;
  result  checkpoint_result;
begin
  perform refuse_invalid(
    array['group_id', 'idempotency_key'],
    array[invalid_id(group_id), invalid_idempotency_key(idempotency_key)]
  );
  -- What this transaction has written would be in the leaves, and not in the snapshot that is kept.
  if pg_current_xact_id_if_assigned() is not null then
    raise exception using
      errcode = 'active_sql_transaction',
      message = 'a checkpoint must be the first change of its transaction',
      hint    = 'Call ledger.checkpoint() in a transaction of its own.';
  end if;

  result := claim_idempotency_key(group_id, idempotency_key, request, result);
  if result.replayed then
    return result;
  end if;

  -- One checkpoint of the group at a time. No idempotency key is empty, so that this is the lock of none.
  perform pg_advisory_xact_lock(hashtextextended('', group_id));
  perform from groups as g where g.id = checkpoint.group_id;
  if not found then
    perform refuse_unknown_group(group_id);
  end if;
  if (find_vault(group_id)).group_id is not null then
    perform refuse_linked(group_id, 'group_id', 'The bridge makes the checkpoints of the group, and publishes them.');
  end if;
  -- The snapshot that is kept means something among the transactions of this server's feed only.
  perform current_feed('group_id');
  added := add_checkpoint(group_id);
  -- Above READ COMMITTED a snapshot from before the group got a vault ends in 40001 here.
  perform from groups as g
  where g.id = checkpoint.group_id
  for share;

  result := checkpoint_answer(group_id, added, false);
  perform store_answer(group_id, idempotency_key, request, result);
  return result;
end
$$;

alter function ledger.checkpoint owner to ledger_owner;
comment on function ledger.checkpoint is
  'Make a checkpoint of the group, also of one that was removed: the root of a tree with a leaf for each participant present and for each exit that is not settled, in one snapshot, chained to the checkpoint before it. No movement waits for it. It must be the first change of its transaction. Refused for a group with a vault. Raises LG001, LG002, LG006, LG009, LG011, LG012.';
revoke execute on function ledger.checkpoint from public;
grant execute on function ledger.checkpoint to ledger_api;
