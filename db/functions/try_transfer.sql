-- Make one transfer if it can be made without waiting for anybody.
create or replace function ledger.try_transfer(
  group_id        bigint,
  from_id         bigint,
  to_id           bigint,
  amount          numeric,
  idempotency_key text,
  metadata        jsonb
) returns ledger.transfer_outcome
language plpgsql volatile
as $$
declare
  participant ledger.participants;
  sender      ledger.participants;
  recipient   ledger.participants;
  made        ledger.transfer_result;
  outcome     ledger.transfer_outcome;
begin
  outcome.place := 1;
  outcome.outcome := 'left';
  if not ledger.transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    return outcome;
  end if;
  if idempotency_key is not null and not (ledger.keys_free(array[group_id], array[idempotency_key], array[true]))[1] then
    return outcome;
  end if;

  for participant in
    select p.*
    from ledger.participants as p
    where p.group_id = try_transfer.group_id
      and p.id in (try_transfer.from_id, try_transfer.to_id)
      and p.exited_at is null
    order by p.id
    for no key update skip locked
  loop
    if participant.id = from_id then
      sender := participant;
    else
      recipient := participant;
    end if;
  end loop;
  if sender.id is null or recipient.id is null then
    select case when count(*) = 2 then 'locked' else 'left' end
    into outcome.outcome
    from ledger.participants as p
    where p.group_id = try_transfer.group_id
      and p.id in (try_transfer.from_id, try_transfer.to_id)
      and p.exited_at is null;
    return outcome;
  end if;
  if ledger.balance_fault(sender.amount - trunc(amount), recipient.amount + trunc(amount)) is not null then
    return outcome;
  end if;

  made := ledger.write_transfer(sender, recipient, amount, metadata, null);
  if idempotency_key is not null then
    perform ledger.remember(
      group_id, idempotency_key, ledger.transfer_request(from_id, to_id, amount, metadata), to_json(made)
    );
  end if;
  outcome.outcome := 'done';
  outcome.to_participant := made.to_participant;
  outcome.from_participant := made.from_participant;
  outcome.entry_id := made.entry_id;
  return outcome;
end
$$;

alter function ledger.try_transfer owner to ledger_owner;
comment on function ledger.try_transfer is
  'What transfer_each does for a single line, in a third of the time: transfer, where nobody is in its way and nothing is to be refused.';
revoke execute on function ledger.try_transfer from public;
