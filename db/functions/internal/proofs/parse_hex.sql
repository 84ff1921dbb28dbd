-- Read bytes from their hex digits.
create or replace function ledger_internal.parse_hex(
  value text,
  bytes integer
) returns bytea
language sql immutable parallel safe
as $$
  select case
    when octet_length(parse_hex.value) = 2 + 2 * parse_hex.bytes and parse_hex.value collate "C" ~ '^0x[0-9a-fA-F]*$'
    then decode(substr(parse_hex.value, 3), 'hex')
  end
$$;

alter function ledger_internal.parse_hex owner to ledger_owner;
comment on function ledger_internal.parse_hex is
  'So many bytes as are spelled by 0x and two hex digits each; null for anything else.';
revoke execute on function ledger_internal.parse_hex from public;
