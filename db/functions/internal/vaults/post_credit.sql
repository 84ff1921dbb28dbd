-- Credit a deposit into the vault to a participant with its address.
create or replace function ledger_internal.post_credit(
  group_id  bigint,
  recipient bigint,
  deposit   ledger.vault_deposits
) returns ledger.vault_deposits
language plpgsql volatile
as $$
declare
  participant ledger.participants;
  metadata    jsonb := jsonb_build_object(
    'vault_deposit', deposit.deposit_index, 'transaction', ledger_internal.hex(deposit.transaction)
  );
begin
  select p.*
  into participant
  from ledger.participants as p
  where p.group_id = post_credit.group_id
    and p.exited_at is null
    and case
      when recipient is not null
      then p.id = post_credit.recipient
      else p.address = post_credit.deposit.address and p.address_proved
    end
  for no key update;
  if found then
    deposit.entry_id := ledger_internal.post_deposit(participant, deposit.amount, metadata);
  else
    participant := ledger_internal.add_participant(group_id, deposit.address, true);
    update ledger.participants as p
    set amount = post_credit.deposit.amount
    where p.group_id = post_credit.group_id
      and p.id = participant.id;
    deposit.entry_id := ledger_internal.post_join(group_id, participant.id, deposit.amount, metadata);
  end if;

  deposit.group_id := group_id;
  deposit.participant_id := participant.id;
  deposit.credited_at := clock_timestamp();
  insert into ledger.vault_deposits
  select deposit.*
  -- Above READ COMMITTED a credit since the snapshot ends in 40001 here.
  on conflict do nothing;
  return deposit;
end
$$;

alter function ledger_internal.post_credit owner to ledger_owner;
comment on function ledger_internal.post_credit is
  'Write a deposit of the vault, which follows the last one, as a deposit of the recipient, of the participant present whose address it is and is proved where recipient is null, or as the join of a new participant; return its row.';
revoke execute on function ledger_internal.post_credit from public;
