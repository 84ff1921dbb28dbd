-- List the transactions of a sender that are not finished.
create or replace function ledger.list_transactions(
  chain_id numeric,
  sender   text
) returns setof ledger.open_transaction
language plpgsql stable security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
begin
  perform refuse_invalid(
    array['chain_id', 'sender'], array[invalid_amount(chain_id, 1), invalid_address(sender)]
  );
  return query
  select
    t.nonce,
    t.group_id,
    t.purpose,
    t.number,
    hex(t.raw),
    cardinality(t.earlier)::bigint,
    array(
      select hex(r.raw)
      from unnest(t.earlier || t.raw) with ordinality as r (raw, place)
      order by r.place
    )
  from bridge_transactions as t
  where t.chain_id = list_transactions.chain_id
    and t.sender = parse_address(list_transactions.sender)
    and t.finished_at is null
  order by t.nonce;
end
$$;

alter function ledger.list_transactions owner to ledger_owner;
comment on function ledger.list_transactions is
  'The signed transactions of a sender on a chain that are not finished, by ascending nonce, each in its newest form, and with those that it replaced. Raises LG001.';
revoke execute on function ledger.list_transactions from public;
grant execute on function ledger.list_transactions to ledger_bridge;
