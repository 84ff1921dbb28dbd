-- Return why a hash is invalid that the bridge reports; null if it is valid.
create or replace function ledger_internal.invalid_chain_hash(
  hash text
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_chain_hash.hash is null
    then 'must be given'
    when ledger_internal.parse_hex(invalid_chain_hash.hash, 32) is null
    then 'must be 0x and 64 hex digits'
  end
$$;

alter function ledger_internal.invalid_chain_hash owner to ledger_owner;
comment on function ledger_internal.invalid_chain_hash is
  'Why the hash of a block or a transaction is not 0x and 64 hex digits; null if it is valid.';
revoke execute on function ledger_internal.invalid_chain_hash from public;
