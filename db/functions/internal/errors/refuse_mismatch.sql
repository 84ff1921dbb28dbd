-- Raise LG013 for a report of the bridge that does not fit the record.
create or replace function ledger_internal.refuse_mismatch(
  field   text,
  message text
) returns void
language plpgsql immutable
as $$
begin
  raise exception using
    errcode = 'LG013',
    column  = refuse_mismatch.field,
    message = refuse_mismatch.message,
    detail  = format('%s: does not fit the record', field),
    hint    = 'Stop the bridge and compare the chain with the record. After a restore run: ledger bridge adopt.';
end
$$;

alter function ledger_internal.refuse_mismatch owner to ledger_owner;
comment on function ledger_internal.refuse_mismatch is
  'Raises LG013 that blames the field: the chain, as the bridge reports it, and the record do not agree.';
revoke execute on function ledger_internal.refuse_mismatch from public;
