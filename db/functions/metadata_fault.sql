-- Say what is wrong with an entry's metadata, or null when nothing is or there is none.
create or replace function ledger.metadata_fault(
  metadata jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when metadata_fault.metadata is null
    then null
    when jsonb_typeof(metadata_fault.metadata) <> 'object'
    then 'must be an object'
    -- Only zeros and numbers with an exponent can be much longer as text than they were given: 0e-4096, 1e4096.
    when metadata_fault.metadata @? 'strict $.** ? (!(@ >= 1e-20 && @ <= 1e20) && !(@ <= -1e-20 && @ >= -1e20))'
      and ledger.metadata_is_long(metadata_fault.metadata)
    then 'must have at most 4096 bytes'
    when octet_length(metadata_fault.metadata::text) > 4096
    then 'must have at most 4096 bytes'
  end
$$;

alter function ledger.metadata_fault owner to ledger_owner;
comment on function ledger.metadata_fault is
  'What is wrong with metadata that must be a JSON object of at most 4096 bytes where there is any; null when nothing is.';
revoke execute on function ledger.metadata_fault from public;
