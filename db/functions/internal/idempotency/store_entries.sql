-- Store the entries of the transfers of a list under their idempotency keys, permanently.
create or replace function ledger_internal.store_entries(
  lines     ledger_internal.transfer_lines,
  decisions ledger_internal.transfer_decisions,
  late      boolean default current_setting('transaction_isolation') <> 'read committed'
) returns void
language plpgsql volatile
as $$
begin
  -- claim_idempotency_keys() has locked the keys and seen that they are unused, unless its snapshot is from before
  -- another's commit. An `on conflict` would search the index for each key once more.
  if late then
    begin
      perform ledger_internal.store_entries(lines, decisions, late => false);
    exception when unique_violation then
      raise exception using
        errcode = 'serialization_failure',
        message = 'an idempotency key of the list has been used';
    end;
    return;
  end if;

  insert into ledger.idempotency_keys (group_id, key, operation, fingerprint, entry_id)
  select
    l.group_id,
    l.key,
    'transfer',
    ledger_internal.fingerprint(ledger_internal.transfer_request(l.from_id, l.to_id, l.amount, l.metadata)),
    l.entry_id
  from unnest(lines.group_ids, lines.idempotency_keys, lines.metadatas, decisions.entries) as l (
    group_id, key, metadata, entry_id, from_id, to_id, amount, from_amount, to_amount
  )
  where l.entry_id is not null
    and l.key is not null;
end
$$;

alter function ledger_internal.store_entries owner to ledger_owner;
comment on function ledger_internal.store_entries is
  'Store the entries of the transfers that were made under their idempotency keys, where they have one. Call claim_idempotency_keys first; a snapshot that is late may not show all that it looks for. Raises 40001 when a key has been used by a request that the snapshot does not show.';
revoke execute on function ledger_internal.store_entries from public;
