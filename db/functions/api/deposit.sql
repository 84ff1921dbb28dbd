-- Add a deposit to the balance of a participant who has joined.
create or replace function ledger.deposit(
  group_id        bigint,
  participant_id  bigint,
  amount          numeric,
  idempotency_key text  default null,
  metadata        jsonb default null
) returns ledger.deposit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
set enable_seqscan = off
as $$
declare
  reasons     text[];
  request     text[];
  deposited   deposit_result;
  participant participants;
begin
  reasons := array[
    invalid_id(group_id), invalid_id(participant_id), invalid_amount(amount, 1), invalid_idempotency_key(idempotency_key),
    invalid_metadata(metadata)
  ];
  perform refuse_invalid(array['group_id', 'participant_id', 'amount', 'idempotency_key', 'metadata'], reasons);

  request := array['deposit', participant_id::text, trunc(amount)::text, metadata::text];
  deposited := claim_idempotency_key(group_id, idempotency_key, request, deposited);
  if deposited.replayed then
    return deposited;
  end if;

  -- A row that its transaction has written before is checked against its group again when it is written: with the group
  -- locked first, as by a join, this cannot deadlock with a removal.
  perform from groups as g
  where g.id = deposit.group_id
  for key share;

  -- The condition on the exit fits no partial index, as in lock_pair().
  select p.*
  into participant
  from participants as p
  where p.group_id = deposit.group_id
    and p.id = deposit.participant_id
    and coalesce(p.exited_at, 'infinity') = 'infinity'
  for no key update;
  if not found then
    perform refuse_unknown_participants(group_id, array['participant_id'], array[participant_id]);
  end if;
  -- Every participant of a group with a vault has it, and no other one.
  if participant.address_proved is not null then
    perform refuse_linked(group_id, 'group_id', 'Deposit into the vault, for the participant''s address.');
  end if;
  if balance_violation(0, participant.amount + amount) is not null then
    perform refuse_invalid(array['amount'], array['would take the balance to 2^256 or more']);
  end if;

  deposited.username := participant.username;
  deposited.id := participant.id;
  deposited.group_id := participant.group_id;
  deposited.amount := participant.amount + trunc(amount);
  deposited.entry_id := post_deposit(participant, amount, metadata);
  deposited.replayed := false;
  perform store_answer(group_id, idempotency_key, request, deposited);
  return deposited;
end
$$;

alter function ledger.deposit owner to ledger_owner;
comment on function ledger.deposit is
  'Add a deposit of 1 or more to the balance of a participant who is present. entry_id is the entry written. Refused in a group with a vault. Raises LG001, LG002, LG006, LG012.';
revoke execute on function ledger.deposit from public;
grant execute on function ledger.deposit to ledger_api;
