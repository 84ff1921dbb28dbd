-- Record that a group was closed at its vault.
create or replace function ledger.record_closing(
  group_id    bigint,
  transaction text,
  block       bigint
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault  vaults;
  status vault_status;
begin
  perform refuse_invalid(
    array['group_id', 'transaction', 'block'],
    array[invalid_id(group_id), invalid_chain_hash(transaction), invalid_number(block)]
  );
  vault := lock_vault(group_id);
  if vault.closed_at is not null then
    if (vault.closing_transaction, vault.closing_block) is distinct from (parse_hex(transaction, 32), block) then
      perform refuse_mismatch('transaction', format('the vault of group %s was closed by another transaction', group_id));
    end if;
    return row(true)::bridge_result;
  end if;
  status := describe_vault(vault);
  -- In an emergency deposits that were not credited are returned.
  if vault.emergency_number is null and status.cumulative <> status.settled then
    perform refuse_mismatch('group_id', format('the vault of group %s took %s and paid %s', group_id, status.cumulative, status.settled));
  end if;
  update vaults as v
  set
    closing_transaction = parse_hex(record_closing.transaction, 32),
    closing_block = record_closing.block,
    closed_at = clock_timestamp()
  where v.group_id = record_closing.group_id;
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_closing owner to ledger_owner;
comment on function ledger.record_closing is
  'Record that the group was closed at its vault, which holds nothing for it: it may be removed then. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_closing from public;
grant execute on function ledger.record_closing to ledger_bridge;
