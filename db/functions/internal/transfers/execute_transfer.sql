-- Make one transfer: lock, decide, write.
create or replace function ledger_internal.execute_transfer(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  amount   numeric,
  metadata jsonb,
  reverses bigint
) returns ledger.transfer_result
language plpgsql volatile
as $$
declare
  pair      ledger.participants[] := ledger_internal.lock_pair(group_id, from_id, to_id, wait => true);
  sender    ledger.participants := pair[1];
  recipient ledger.participants := pair[2];
  violation text;
begin
  if sender.id is null or recipient.id is null then
    perform ledger_internal.refuse_frozen(group_id);
    perform ledger_internal.refuse_unknown_participants(
      group_id,
      array_remove(array[case when sender.id is null then 'from_id' end, case when recipient.id is null then 'to_id' end], null),
      array_remove(array[case when sender.id is null then from_id end, case when recipient.id is null then to_id end], null)
    );
  end if;

  violation := ledger_internal.balance_violation(sender.amount - amount, recipient.amount + amount);
  if violation is not null then
    perform ledger_internal.refuse_transfer(violation, 'amount', sender.id, sender.amount, amount);
  end if;

  return ledger_internal.post_transfer(sender, recipient, amount, metadata, reverses);
end
$$;

alter function ledger_internal.execute_transfer owner to ledger_owner;
comment on function ledger_internal.execute_transfer is
  'Transfer a valid amount between two different participants of a group; reverses is the entry that it reverses, if any. Raises LG001, LG002, LG003, LG014.';
revoke execute on function ledger_internal.execute_transfer from public;
