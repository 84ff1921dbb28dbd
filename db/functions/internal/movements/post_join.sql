-- Write the join of a participant who was just inserted.
create or replace function ledger_internal.post_join(
  group_id       bigint,
  participant_id bigint,
  amount         numeric,
  metadata       jsonb
) returns bigint
language plpgsql volatile
as $$
declare
  -- A join that waits for a username or an address holds no shard, so the time is known only now.
  shard     ledger.group_total_shards := ledger_internal.add_to_group_total(group_id, amount, null);
  new_entry bigint;
begin
  update ledger.participants as p
  set
    joined_at = shard.changed_at,
    moved_at = shard.changed_at
  where p.group_id = post_join.group_id
    and p.id = post_join.participant_id;

  insert into ledger.entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    post_join.group_id, 'join', post_join.participant_id, post_join.amount, post_join.amount, shard.changed_at,
    post_join.metadata
  )
  returning entries.id into new_entry;
  perform ledger_internal.record_group_total(shard, new_entry);
  return new_entry;
end
$$;

alter function ledger_internal.post_join owner to ledger_owner;
comment on function ledger_internal.post_join is
  'Write the entry of a join and its amount in the group''s total, and return the entry; this transaction has inserted the participant, with this amount.';
revoke execute on function ledger_internal.post_join from public;
