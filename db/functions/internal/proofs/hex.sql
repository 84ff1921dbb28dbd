-- Spell bytes in hex digits.
create or replace function ledger_internal.hex(
  bytes bytea
) returns text
language sql immutable parallel safe
as $$
  select '0x' || encode(hex.bytes, 'hex')
$$;

alter function ledger_internal.hex owner to ledger_owner;
comment on function ledger_internal.hex is
  '0x and two hex digits for each byte.';
revoke execute on function ledger_internal.hex from public;
