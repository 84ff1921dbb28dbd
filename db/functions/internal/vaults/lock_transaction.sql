-- Lock a transaction that was recorded.
create or replace function ledger_internal.lock_transaction(
  chain_id numeric,
  sender   bytea,
  nonce    bigint
) returns ledger.bridge_transactions
language plpgsql volatile
as $$
declare
  known ledger.bridge_transactions;
begin
  select t.*
  into known
  from ledger.bridge_transactions as t
  where t.chain_id = lock_transaction.chain_id
    and t.sender = lock_transaction.sender
    and t.nonce = lock_transaction.nonce
  for no key update;
  if not found then
    perform ledger_internal.refuse_mismatch(
      'nonce', format('no transaction with nonce %s of %s was recorded', nonce, ledger_internal.format_address(sender))
    );
  end if;
  return known;
end
$$;

alter function ledger_internal.lock_transaction owner to ledger_owner;
comment on function ledger_internal.lock_transaction is
  'Lock the row of a signed transaction until this one ends, and return it. Raises LG013 where there is none.';
revoke execute on function ledger_internal.lock_transaction from public;
