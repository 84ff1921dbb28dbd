-- Write a transfer between two locked participants: both balances and the entry.
create or replace function ledger_internal.post_transfer(
  sender    ledger.participants,
  recipient ledger.participants,
  amount    numeric,
  metadata  jsonb,
  reverses  bigint
) returns ledger.transfer_result
language plpgsql volatile
as $$
declare
  -- Read while both are locked, and never before either participant's last movement, even if the clock goes back.
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
    sender.group_id, 'transfer', sender.id, recipient.id, post_transfer.amount, sender.amount, recipient.amount, moment,
    post_transfer.metadata, post_transfer.reverses
  )
  returning entries.id into result.entry_id;

  result.to_participant := (recipient.username, recipient.id, recipient.group_id, recipient.amount);
  result.from_participant := (sender.username, sender.id, sender.group_id, sender.amount);
  result.replayed := false;
  return result;
end
$$;

alter function ledger_internal.post_transfer owner to ledger_owner;
comment on function ledger_internal.post_transfer is
  'Write a valid transfer, both balances and the entry; this transaction has locked the rows sender and recipient.';
revoke execute on function ledger_internal.post_transfer from public;
