-- Return the answer that was given to the request of an idempotency key.
create or replace function ledger_internal.stored_answer(
  kept ledger.idempotency_keys
) returns jsonb
language sql stable
as $$
  select case
    when kept.entry_id is null
    then kept.answer::jsonb
    else to_jsonb(ledger_internal.transfer_answer(kept.group_id, kept.entry_id))
  end
$$;

alter function ledger_internal.stored_answer owner to ledger_owner;
comment on function ledger_internal.stored_answer is
  'The answer that was given to the request of an idempotency key: as it was stored, or for a transfer made again from its entry.';
revoke execute on function ledger_internal.stored_answer from public;
