-- Write down a transfer between two participants who are locked: both balances and the entry.
create or replace function ledger.write_transfer(
  sender    ledger.participants,
  recipient ledger.participants,
  amount    numeric,
  metadata  jsonb,
  reverses  bigint
) returns ledger.transfer_result
language plpgsql volatile
as $$
declare
  -- Taken while both are locked, and never below a time that either has, whatever the clock does.
  moment timestamptz := greatest(clock_timestamp(), sender.moved_at, recipient.moved_at);
  result ledger.transfer_result;
begin
  sender.amount := sender.amount - amount;
  recipient.amount := recipient.amount + amount;

  update ledger.participants as p
  set
    amount = case when p.id = sender.id then sender.amount else recipient.amount end,
    moved_at = moment
  where p.group_id = sender.group_id
    and p.id in (sender.id, recipient.id);

  insert into ledger.entries (
    group_id, kind, from_id, to_id, amount, from_amount, to_amount, created_at, metadata, reverses
  )
  values (
    sender.group_id, 'transfer', sender.id, recipient.id, write_transfer.amount, sender.amount, recipient.amount, moment,
    write_transfer.metadata, write_transfer.reverses
  )
  returning entries.id into result.entry_id;

  result.to_participant := (recipient.username, recipient.id, recipient.group_id, recipient.amount);
  result.from_participant := (sender.username, sender.id, sender.group_id, sender.amount);
  result.replayed := false;
  return result;
end
$$;

alter function ledger.write_transfer owner to ledger_owner;
comment on function ledger.write_transfer is
  'Write what a transfer does that may be made, both balances and the entry; sender and recipient are rows that this transaction has locked.';
revoke execute on function ledger.write_transfer from public;
