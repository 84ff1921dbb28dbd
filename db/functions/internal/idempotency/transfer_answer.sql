-- Make the answer to a transfer again, from the record.
create or replace function ledger_internal.transfer_answer(
  group_id bigint,
  entry_id bigint
) returns ledger.transfer_result
language sql stable
as $$
  select
    (ledger_internal.username_at(e.group_id, e.to_id, e.id), e.to_id, e.group_id, e.to_amount)::ledger.current_participants,
    (ledger_internal.username_at(e.group_id, e.from_id, e.id), e.from_id, e.group_id, e.from_amount)::ledger.current_participants,
    e.id,
    false
  from ledger.entries as e
  where e.group_id = transfer_answer.group_id
    and e.id = transfer_answer.entry_id
$$;

alter function ledger_internal.transfer_answer owner to ledger_owner;
comment on function ledger_internal.transfer_answer is
  'What transfer() returned when it wrote this entry: with the usernames and the balances of that time.';
revoke execute on function ledger_internal.transfer_answer from public;
