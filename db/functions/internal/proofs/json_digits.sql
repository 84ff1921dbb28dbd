-- Read the digits of a whole number in a proof.
create or replace function ledger_internal.json_digits(
  value jsonb
) returns text
language sql immutable parallel safe
as $$
  select case
    when octet_length(j.digits) between 1 and 78 and ltrim(j.digits, '0123456789') = ''
    then j.digits
  end
  from (select ledger_internal.json_scalar_text(json_digits.value) as digits) as j
$$;

alter function ledger_internal.json_digits owner to ledger_owner;
comment on function ledger_internal.json_digits is
  'The 1 to 78 digits of a whole number in JSON, a string or a number; null for anything else.';
revoke execute on function ledger_internal.json_digits from public;
