-- Store the entry of a transfer under its idempotency key, permanently.
create or replace function ledger_internal.store_entry(
  group_id bigint,
  key      text,
  request  text[],
  entry_id bigint
) returns void
language plpgsql volatile
as $$
begin
  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, entry_id)
  values (store_entry.group_id, store_entry.key, request[1], ledger_internal.fingerprint(request), store_entry.entry_id)
  -- As in store_answer().
  on conflict do nothing;
  if not found then
    perform ledger_internal.refuse_used_key(group_id, key);
  end if;
end
$$;

alter function ledger_internal.store_entry owner to ledger_owner;
comment on function ledger_internal.store_entry is
  'Store the entry of a transfer, an operation and its values, under its idempotency key: its answer is made of the record. Call claim_idempotency_key first. Raises 40001 when the key has been used, also by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_entry from public;
