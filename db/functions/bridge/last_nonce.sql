-- Find the last nonce that was recorded for a sender.
create or replace function ledger.last_nonce(
  chain_id  numeric,
  sender    text,
  out nonce bigint
)
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_invalid(
    array['chain_id', 'sender'], array[invalid_amount(chain_id, 1), invalid_address(sender)]
  );
  nonce := (
    select max(t.nonce)
    from bridge_transactions as t
    where t.chain_id = last_nonce.chain_id
      and t.sender = parse_address(last_nonce.sender)
  );
end
$$;

alter function ledger.last_nonce owner to ledger_owner;
comment on function ledger.last_nonce is
  'The greatest nonce of a transaction that was recorded for the sender on a chain, null without one. Raises LG001.';
revoke execute on function ledger.last_nonce from public;
grant execute on function ledger.last_nonce to ledger_bridge;
