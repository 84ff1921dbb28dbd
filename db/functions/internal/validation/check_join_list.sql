-- Check the values of a list of joins, and parse its lines.
create or replace function ledger_internal.check_join_list(
  group_id        bigint,
  participants    jsonb,
  idempotency_key text
) returns ledger_internal.join_lines
language plpgsql immutable
as $$
begin
  perform ledger_internal.refuse_invalid(
    array['group_id', 'participants', 'idempotency_key'],
    array[
      ledger_internal.invalid_id(group_id),
      ledger_internal.invalid_list(participants),
      ledger_internal.invalid_idempotency_key(idempotency_key)
    ]
  );
  return ledger_internal.parse_join_lines(participants);
end
$$;

alter function ledger_internal.check_join_list owner to ledger_owner;
comment on function ledger_internal.check_join_list is
  'The lines of a list of joins by columns. Raises LG001 for a list that is none or has too many lines, then for the invalid fields of each line.';
revoke execute on function ledger_internal.check_join_list from public;
