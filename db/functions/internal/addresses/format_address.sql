-- Spell an address on the main network with its checksum (EIP-55).
create or replace function ledger_internal.format_address(
  address bytea
) returns text
language plpgsql immutable strict parallel safe
as $$
declare
  digits   text := encode(address, 'hex');
  -- Of the digits, not of the bytes.
  checksum text := encode(ledger_internal.keccak_256(convert_to(digits, 'UTF8')), 'hex');
begin
  return '0x' || (
    select string_agg(
      case when substr(checksum, d.place, 1) collate "C" >= '8' then upper(d.digit collate "C") else d.digit end,
      ''
      order by d.place
    )
    from string_to_table(digits, null) with ordinality as s (digit, place)
    cross join lateral (select s.digit, s.place::integer) as d (digit, place)
  );
end
$$;

alter function ledger_internal.format_address owner to ledger_owner;
comment on function ledger_internal.format_address is
  'An address as 0x and 40 hex digits, whose case is the checksum of EIP-55; null for null.';
revoke execute on function ledger_internal.format_address from public;
