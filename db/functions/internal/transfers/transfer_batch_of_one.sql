-- Make one transfer without waiting for a lock.
create or replace function ledger_internal.transfer_batch_of_one(
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
  outcome.outcome := 'deferred';
  if not ledger_internal.transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    return outcome;
  end if;
  if idempotency_key is not null
    and not (ledger_internal.claim_idempotency_keys(array[group_id], array[idempotency_key], array[true]))[1]
  then
    return outcome;
  end if;

  for participant in
    select p.*
    from ledger.participants as p
    where p.group_id = transfer_batch_of_one.group_id
      and p.id in (transfer_batch_of_one.from_id, transfer_batch_of_one.to_id)
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
    select case when count(*) = 2 then 'locked' else 'deferred' end
    into outcome.outcome
    from ledger.participants as p
    where p.group_id = transfer_batch_of_one.group_id
      and p.id in (transfer_batch_of_one.from_id, transfer_batch_of_one.to_id)
      and p.exited_at is null;
    return outcome;
  end if;
  if ledger_internal.balance_violation(sender.amount - trunc(amount), recipient.amount + trunc(amount)) is not null then
    return outcome;
  end if;

  made := ledger_internal.post_transfer(sender, recipient, amount, metadata, null);
  if idempotency_key is not null then
    perform ledger_internal.store_answer(
      group_id, idempotency_key, ledger_internal.transfer_request(from_id, to_id, amount, metadata), to_json(made)
    );
  end if;
  outcome.outcome := 'done';
  outcome.to_participant := made.to_participant;
  outcome.from_participant := made.from_participant;
  outcome.entry_id := made.entry_id;
  return outcome;
end
$$;

alter function ledger_internal.transfer_batch_of_one owner to ledger_owner;
comment on function ledger_internal.transfer_batch_of_one is
  'What transfer_batch does for a single line, in a third of the time: the transfer, unless it would wait or be refused.';
revoke execute on function ledger_internal.transfer_batch_of_one from public;
