-- Return why a number of the chain is invalid; null if it is valid.
create or replace function ledger_internal.invalid_number(
  number bigint
) returns text
language sql immutable parallel safe
as $$
  select case
    when invalid_number.number is null
    then 'must be given'
    when invalid_number.number < 0
    then 'must be at least 0'
  end
$$;

alter function ledger_internal.invalid_number owner to ledger_owner;
comment on function ledger_internal.invalid_number is
  'Why the number of a block, a deposit, a log or a transaction is not 0 or more; null if it is valid.';
revoke execute on function ledger_internal.invalid_number from public;
