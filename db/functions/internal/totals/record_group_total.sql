-- Record the total of a shard after a join, a deposit or an exit.
create or replace function ledger_internal.record_group_total(
  shard          ledger.group_total_shards,
  entry_id       bigint,
  participant_id bigint default null
) returns void
language sql volatile
as $$
  insert into ledger.group_total_history (group_id, slot, created_at, entry_id, total, participant_id)
  values (
    shard.group_id, shard.slot, shard.changed_at, record_group_total.entry_id, shard.total,
    record_group_total.participant_id
  )
$$;

alter function ledger_internal.record_group_total owner to ledger_owner;
comment on function ledger_internal.record_group_total is
  'Record a shard''s total after an entry, so that a group''s total at a past moment is looked up instead of added up; participant_id is given for a deposit.';
revoke execute on function ledger_internal.record_group_total from public;
