-- Say whether two balances that a transfer would leave behind may be.
create or replace function ledger.balance_fault(
  from_amount numeric,
  to_amount   numeric
) returns text
language sql immutable parallel safe
as $$
  select case
    when balance_fault.to_amount >= 2::numeric ^ 256
    then 'overflow'
    when balance_fault.from_amount < 0
    then 'insufficient funds'
  end
$$;

alter function ledger.balance_fault owner to ledger_owner;
comment on function ledger.balance_fault is
  'Why a transfer is refused that would leave its sender and its recipient with these balances: overflow or insufficient funds; null when it may be made. The rule of every transfer.';
revoke execute on function ledger.balance_fault from public;
