-- Record that a transaction was mined.
create or replace function ledger.finish_transaction(
  chain_id    numeric,
  sender      text,
  nonce       bigint,
  transaction text,
  block       bigint,
  succeeded   boolean
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  known bridge_transactions;
begin
  perform refuse_invalid(
    array['chain_id', 'sender', 'nonce', 'transaction', 'block', 'succeeded'],
    array[
      invalid_amount(chain_id, 1), invalid_address(sender), invalid_number(nonce), invalid_chain_hash(transaction),
      invalid_number(block), case when succeeded is null then 'must be given' end
    ]
  );
  known := lock_transaction(chain_id, parse_address(sender), nonce);
  if known.finished_at is not null then
    if (known.transaction, known.block, known.succeeded) is distinct from (parse_hex(transaction, 32), block, succeeded) then
      perform refuse_mismatch('transaction', format('nonce %s of %s was finished by another transaction', nonce, sender));
    end if;
    return row(true)::bridge_result;
  end if;
  update bridge_transactions as t
  set
    transaction = parse_hex(finish_transaction.transaction, 32),
    block = finish_transaction.block,
    succeeded = finish_transaction.succeeded,
    -- The clock may have gone back.
    finished_at = greatest(clock_timestamp(), t.recorded_at)
  where t.chain_id = finish_transaction.chain_id
    and t.sender = known.sender
    and t.nonce = finish_transaction.nonce;
  return row(false)::bridge_result;
end
$$;

alter function ledger.finish_transaction owner to ledger_owner;
comment on function ledger.finish_transaction is
  'Record that a transaction of this nonce was mined and is final. The same again changes nothing, and replayed is true. Raises LG001, LG013.';
revoke execute on function ledger.finish_transaction from public;
grant execute on function ledger.finish_transaction to ledger_bridge;
