-- Say what is wrong with an entry's metadata, or null when nothing is or there is none.
create or replace function ledger.metadata_fault(
  metadata jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when jsonb_typeof(metadata_fault.metadata) <> 'object'
    then 'must be an object'
    when octet_length(metadata_fault.metadata::text) > 4096
    then 'must have at most 4096 bytes'
  end
$$;

alter function ledger.metadata_fault owner to ledger_owner;
comment on function ledger.metadata_fault is
  'What is wrong with metadata that must be a JSON object of at most 4096 bytes where there is any; null when nothing is.';
revoke execute on function ledger.metadata_fault from public;
