-- Say what is wrong with an amount, or null when nothing is.
create or replace function ledger.amount_fault(
  amount  numeric,
  minimum numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when amount_fault.amount is null
    then 'must be given'
    -- NaN and the infinities are numerics too, and equal to their own trunc().
    when amount_fault.amount in ('NaN', 'Infinity', '-Infinity')
      or amount_fault.amount <> trunc(amount_fault.amount)
    then 'must be a whole number'
    when amount_fault.amount < amount_fault.minimum
    -- Not format(), which is not immutable and would keep this from being inlined.
    then 'must be at least ' || amount_fault.minimum::text
    when amount_fault.amount >= 2::numeric ^ 256
    then 'must be below 2^256'
  end
$$;

alter function ledger.amount_fault owner to ledger_owner;
comment on function ledger.amount_fault is
  'What is wrong with an amount that must be a whole number from minimum to 2^256 - 1; null when nothing is.';
revoke execute on function ledger.amount_fault from public;
