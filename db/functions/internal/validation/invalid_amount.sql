-- Return why an amount is invalid; null if it is valid.
create or replace function ledger_internal.invalid_amount(
  amount  numeric,
  minimum numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_amount.amount is null
    then 'must be given'
    -- NaN and the infinities are numerics too, and equal to their own trunc().
    when invalid_amount.amount in ('NaN', 'Infinity', '-Infinity')
      or invalid_amount.amount <> trunc(invalid_amount.amount)
    then 'must be a whole number'
    when invalid_amount.amount < invalid_amount.minimum
    -- Not format(), which is not immutable: this function could not be inlined.
    then 'must be at least ' || invalid_amount.minimum::text
    when invalid_amount.amount >= 2::numeric ^ 256
    then 'must be below 2^256'
  end
$$;

alter function ledger_internal.invalid_amount owner to ledger_owner;
comment on function ledger_internal.invalid_amount is
  'Why an amount is not a whole number from minimum to 2^256 - 1; null if it is valid.';
revoke execute on function ledger_internal.invalid_amount from public;
