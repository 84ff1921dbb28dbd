-- Read bytes from the hex digits of a JSON string.
create or replace function ledger_internal.json_hex(
  value jsonb,
  bytes integer
) returns bytea
language sql immutable parallel safe
as $$
  -- Nothing else is written out: an array of a few bytes can have gigabytes of digits.
  select case jsonb_typeof(json_hex.value)
    when 'string'
    then ledger_internal.parse_hex(json_hex.value #>> '{}', json_hex.bytes)
  end
$$;

alter function ledger_internal.json_hex owner to ledger_owner;
comment on function ledger_internal.json_hex is
  'So many bytes as a JSON string spells by 0x and two hex digits each; null for anything else.';
revoke execute on function ledger_internal.json_hex from public;
