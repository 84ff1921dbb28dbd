-- Write a deposit of a participant whose row is locked.
create or replace function ledger_internal.post_deposit(
  participant ledger.participants,
  amount      numeric,
  metadata    jsonb
) returns bigint
language plpgsql volatile
as $$
declare
  shard     ledger.group_total_shards := ledger_internal.add_to_group_total(
    participant.group_id, amount, participant.moved_at
  );
  new_entry bigint;
begin
  participant.amount := participant.amount + trunc(amount);
  update ledger.participants as p
  set
    amount = participant.amount,
    moved_at = shard.changed_at
  where p.group_id = participant.group_id
    and p.id = participant.id;

  insert into ledger.entries (group_id, kind, to_id, amount, to_amount, created_at, metadata)
  values (
    participant.group_id, 'deposit', participant.id, post_deposit.amount, participant.amount, shard.changed_at,
    post_deposit.metadata
  )
  returning entries.id into new_entry;
  perform ledger_internal.record_group_total(shard, new_entry, participant.id);
  return new_entry;
end
$$;

alter function ledger_internal.post_deposit owner to ledger_owner;
comment on function ledger_internal.post_deposit is
  'Add a valid deposit to the balance of a participant, write the entry and return it; this transaction has locked the row participant.';
revoke execute on function ledger_internal.post_deposit from public;
