-- Check the values of a list of transfers, and parse its lines.
create or replace function ledger_internal.check_transfer_list(
  group_id        bigint,
  transfers       jsonb,
  idempotency_key text
) returns ledger_internal.transfer_lines
language plpgsql immutable
as $$
begin
  perform ledger_internal.refuse_invalid(
    array['group_id', 'transfers', 'idempotency_key'],
    array[
      ledger_internal.invalid_id(group_id),
      ledger_internal.invalid_list(transfers),
      ledger_internal.invalid_idempotency_key(idempotency_key)
    ]
  );
  return ledger_internal.parse_transfer_lines(group_id, transfers);
end
$$;

alter function ledger_internal.check_transfer_list owner to ledger_owner;
comment on function ledger_internal.check_transfer_list is
  'The lines of a list of transfers by columns. Raises LG001 for a list that is none or has too many lines, then for the invalid fields of each line.';
revoke execute on function ledger_internal.check_transfer_list from public;
