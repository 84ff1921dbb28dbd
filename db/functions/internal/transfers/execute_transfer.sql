-- Lock two participants and transfer between them.
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
  participant ledger.participants;
  sender      ledger.participants;
  recipient   ledger.participants;
  violation   text;
begin
  -- In ascending id, so that no two transfers wait for each other. Both stay present until this commits, so the group
  -- cannot be removed.
  for participant in
    select p.*
    from ledger.participants as p
    where p.group_id = execute_transfer.group_id
      and p.id in (execute_transfer.from_id, execute_transfer.to_id)
      and p.exited_at is null
    order by p.id
    for no key update
  loop
    if participant.id = from_id then
      sender := participant;
    else
      recipient := participant;
    end if;
  end loop;

  if sender.id is null or recipient.id is null then
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
  'Transfer a valid amount between two different participants of a group; reverses is the entry that it reverses, if any. Raises LG001, LG002, LG003.';
revoke execute on function ledger_internal.execute_transfer from public;
