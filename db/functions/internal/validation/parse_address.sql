-- Parse an address on the main network.
create or replace function ledger_internal.parse_address(
  address text
) returns bytea
language sql immutable parallel safe
as $$
  select case
    when octet_length(address) = 42 and address collate "C" ~ '^0x[0-9A-Fa-f]{40}$'
    then decode(substr(address, 3), 'hex')
  end
$$;

alter function ledger_internal.parse_address owner to ledger_owner;
comment on function ledger_internal.parse_address is
  'The 20 bytes of an address of 0x and 40 hex digits, whatever their case; null for any other text.';
revoke execute on function ledger_internal.parse_address from public;
