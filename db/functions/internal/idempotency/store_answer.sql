-- Store the answer to a request under its idempotency key, permanently.
create or replace function ledger_internal.store_answer(
  group_id bigint,
  key      text,
  request  text[],
  result   record
) returns void
language plpgsql volatile
as $$
begin
  if key is null then
    return;
  end if;

  -- claim_idempotency_key() has locked the key; a snapshot from before another's commit ends in 40001 here. No money moves
  -- without a stored answer.
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, answer)
  values (store_answer.group_id, store_answer.key, request[1], ledger_internal.fingerprint(request), to_json(result))
  on conflict do nothing;
  if not found then
    perform ledger_internal.refuse_used_key(group_id, key);
  end if;
end
$$;

alter function ledger_internal.store_answer owner to ledger_owner;
comment on function ledger_internal.store_answer is
  'Store the result of a request, an operation and its values, under its idempotency key, if one is given; a transfer''s by store_entry(). Call claim_idempotency_key first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_answer from public;
