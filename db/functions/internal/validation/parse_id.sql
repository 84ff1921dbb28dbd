-- Parse an id.
create or replace function ledger_internal.parse_id(
  value text
) returns bigint
language sql immutable parallel safe
as $$
  -- In ASCII digits alone: the type's own parser takes signs, spaces and other bases as well.
  select case
    when octet_length(value) between 1 and 18 and ltrim(value, '0123456789') = ''
    then nullif(value::bigint, 0)
    when octet_length(value) not between 1 and 1000
      or value collate "C" ~ '[^0-9]'
      or length(ltrim(value, '0')) not between 1 and 19
    then null
    when value::numeric <= 9223372036854775807
    then value::bigint
  end
$$;

alter function ledger_internal.parse_id owner to ledger_owner;
comment on function ledger_internal.parse_id is
  'The positive bigint that is spelled in digits; null for anything else.';
revoke execute on function ledger_internal.parse_id from public;
