-- Write the exit of a participant whose row is locked.
create or replace function ledger_internal.post_exit(
  participant ledger.participants,
  metadata    jsonb,
  id          bigint default null
) returns bigint
language plpgsql volatile
as $$
declare
  shard     ledger.group_total_shards := ledger_internal.add_to_group_total(
    participant.group_id, -participant.amount, participant.moved_at
  );
  new_entry bigint;
begin
  update ledger.participants as p
  set
    amount = 0,
    moved_at = shard.changed_at,
    exited_at = shard.changed_at
  where p.group_id = participant.group_id
    and p.id = participant.id;

  insert into ledger.entries (group_id, id, kind, from_id, amount, from_amount, created_at, metadata)
  overriding system value
  values (
    participant.group_id, coalesce(post_exit.id, nextval('ledger.entries_id_seq')), 'exit', participant.id, participant.amount, 0, shard.changed_at, post_exit.metadata
  )
  returning entries.id into new_entry;
  perform ledger_internal.record_group_total(shard, new_entry);

  insert into ledger.settlements (group_id, entry_id, exited_at)
  values (participant.group_id, new_entry, shard.changed_at);
  return new_entry;
end
$$;

alter function ledger_internal.post_exit owner to ledger_owner;
comment on function ledger_internal.post_exit is
  'Let a participant leave with all that they hold, write the entry, with this id if one is given, and return it; this transaction has locked the row participant.';
revoke execute on function ledger_internal.post_exit from public;
