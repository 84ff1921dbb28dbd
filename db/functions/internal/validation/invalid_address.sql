-- Return why an address on the main network is invalid; null if it is valid.
create or replace function ledger_internal.invalid_address(
  address text
) returns text
language plpgsql immutable parallel safe
as $$
declare
  value bytea := ledger_internal.parse_address(address);
begin
  return case
    when address is null
    then 'must be given'
    when value is null
    then 'must be 0x and 40 hex digits'
    when value = '\x0000000000000000000000000000000000000000'
    then 'must not be the zero address'
    -- Digits of one case carry no checksum.
    when substr(address, 3) collate "C" not in (lower(substr(address, 3) collate "C"), upper(substr(address, 3) collate "C"))
      and address <> ledger_internal.format_address(value)
    then 'must have the checksum of EIP-55 in mixed case'
  end;
end
$$;

alter function ledger_internal.invalid_address owner to ledger_owner;
comment on function ledger_internal.invalid_address is
  'Why an address is not 0x and 40 hex digits, other than zero, whose mixed case has the checksum of EIP-55; null if it is valid.';
revoke execute on function ledger_internal.invalid_address from public;
