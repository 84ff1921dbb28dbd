-- Return which rule a transfer's resulting balances break: an overdraft or an overflow; null if none.
create or replace function ledger_internal.balance_violation(
  from_amount numeric,
  to_amount   numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when balance_violation.to_amount >= 2::numeric ^ 256
    then 'overflow'
    when balance_violation.from_amount < 0
    then 'insufficient funds'
  end
$$;

alter function ledger_internal.balance_violation owner to ledger_owner;
comment on function ledger_internal.balance_violation is
  'Why a transfer that leaves its sender and its recipient with these balances is refused: overflow or insufficient funds; null if it is allowed. The rule of every transfer.';
revoke execute on function ledger_internal.balance_violation from public;
