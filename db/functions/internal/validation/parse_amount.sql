-- Parse an amount.
create or replace function ledger_internal.parse_amount(
  value text
) returns numeric
language sql immutable parallel safe
as $$
  -- 2^256 - 1 has 78 digits. A longer number would be refused anyway, after a costly conversion.
  select case
    when octet_length(value) not between 1 and 1000
    then null
    when value collate "C" !~ '[^0-9]' and length(ltrim(value, '0')) <= 78
    then value::numeric
  end
$$;

alter function ledger_internal.parse_amount owner to ledger_owner;
comment on function ledger_internal.parse_amount is
  'The whole number that is spelled in at most 78 digits, zeros before them aside; null for anything else.';
revoke execute on function ledger_internal.parse_amount from public;
