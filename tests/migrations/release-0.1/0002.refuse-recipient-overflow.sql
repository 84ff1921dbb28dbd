-- Refuse recipient overflow.
-- depends: 0001.the-ledger

set local lock_timeout = '5s';
set local role ledger_owner;
-- Functions may call each other in any order.
set local check_function_bodies = off;

-- >>> db/functions/transfer.sql
-- Move money between two participants of one group.
create or replace function ledger.transfer(
  group_id bigint,
  from_id  bigint,
  to_id    bigint,
  amount   numeric
) returns ledger.transfer_result
language plpgsql volatile security definer
set search_path = ledger, pg_temp
as $$
declare
  participant participants;
  sender      current_participants;
  recipient   current_participants;
  result      transfer_result;
begin
  if (group_id is not null and from_id <> to_id and amount_fault(amount, 1) is null) is not true then
    perform refuse_invalid(
      array['group_id', 'from_id', 'to_id', 'amount'],
      array[
        id_fault(group_id),
        id_fault(from_id),
        case when to_id = from_id then 'must be another participant' else id_fault(to_id) end,
        amount_fault(amount, 1)
      ]
    );
  end if;

  -- In ascending id, so that no two transfers wait for each other. Both are present until this commits, which keeps
  -- the group from being removed.
  for participant in
    select p.*
    from participants as p
    where p.group_id = transfer.group_id
      and p.id in (transfer.from_id, transfer.to_id)
      and p.exited_at is null
    order by p.id
    for no key update
  loop
    if participant.id = from_id then
      sender := (participant.username, participant.id, participant.group_id, participant.amount);
    else
      recipient := (participant.username, participant.id, participant.group_id, participant.amount);
    end if;
  end loop;

  if sender.id is null or recipient.id is null then
    perform refuse_unknown_participants(
      group_id,
      array_remove(array[case when sender.id is null then 'from_id' end, case when recipient.id is null then 'to_id' end], null),
      array_remove(array[case when sender.id is null then from_id end, case when recipient.id is null then to_id end], null)
    );
  end if;

  if recipient.amount + amount >= 2::numeric ^ 256 then
    perform refuse_invalid(array['amount'], array['would take the recipient to 2^256 or more']);
  end if;
  if sender.amount < amount then
    raise exception using
      errcode = 'LG003',
      column  = 'amount',
      message = format('participant %s has %s, cannot send %s', sender.id, sender.amount, amount),
      detail  = format('amount: exceeds the balance of %s', sender.amount),
      hint    = 'Send at most the balance.';
  end if;

  sender.amount := sender.amount - amount;
  recipient.amount := recipient.amount + amount;

  update participants as p
  set amount = case when p.id = transfer.from_id then sender.amount else recipient.amount end
  where p.group_id = transfer.group_id
    and p.id in (transfer.from_id, transfer.to_id);

  insert into entries (group_id, kind, from_id, to_id, amount, from_amount, to_amount)
  values (transfer.group_id, 'transfer', transfer.from_id, transfer.to_id, transfer.amount, sender.amount, recipient.amount)
  returning entries.id into result.entry_id;

  result.to_participant := recipient;
  result.from_participant := sender;
  return result;
end
$$;

alter function ledger.transfer owner to ledger_owner;
comment on function ledger.transfer is
  'Move amount from one participant to another of the same group. entry_id is the entry written. Raises LG001, LG002, LG003.';
revoke execute on function ledger.transfer from public;
grant execute on function ledger.transfer to ledger_api;
-- <<< db/functions/transfer.sql
