-- Return why an entry's metadata are invalid; null if they are valid or not given.
create or replace function ledger_internal.invalid_metadata(
  metadata jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_metadata.metadata is null
    then null
    when jsonb_typeof(invalid_metadata.metadata) <> 'object'
    then 'must be an object'
    -- Only zeros and numbers with an exponent can be much longer as text than they were given: 0e-4096, 1e4096.
    when invalid_metadata.metadata @? 'strict $.** ? (!(@ >= 1e-20 && @ <= 1e20) && !(@ <= -1e-20 && @ >= -1e20))'
      and ledger_internal.metadata_is_long(invalid_metadata.metadata)
    then 'must have at most 4096 bytes'
    when octet_length(invalid_metadata.metadata::text) > 4096
    then 'must have at most 4096 bytes'
  end
$$;

alter function ledger_internal.invalid_metadata owner to ledger_owner;
comment on function ledger_internal.invalid_metadata is
  'Why metadata are not a JSON object of at most 4096 bytes; null if they are valid or null.';
revoke execute on function ledger_internal.invalid_metadata from public;
