-- Record a signed transaction before it is sent.
create or replace function ledger.record_transaction(
  chain_id numeric,
  sender   text,
  nonce    bigint,
  group_id bigint,
  purpose  text,
  number   bigint,
  raw      text
) returns ledger.bridge_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault vaults;
  known bridge_transactions;
begin
  perform refuse_invalid(
    array['chain_id', 'sender', 'nonce', 'group_id', 'purpose', 'number', 'raw'],
    array[
      invalid_amount(chain_id, 1), invalid_address(sender), invalid_number(nonce), invalid_id(group_id),
      case when (purpose in ('publish', 'withdraw')) is not true then 'must be publish or withdraw' end,
      invalid_id(number),
      case when (raw collate "C" ~ '^0x([0-9a-fA-F]{2})+$') is not true then 'must be 0x and pairs of hex digits' end
    ]
  );
  vault := require_vault(group_id);
  if vault.chain_id <> chain_id then
    perform refuse_mismatch('chain_id', format('the vault of group %s is on chain %s', group_id, vault.chain_id));
  end if;

  insert into bridge_transactions (chain_id, sender, nonce, group_id, purpose, number, raw)
  values (
    record_transaction.chain_id, parse_address(record_transaction.sender), record_transaction.nonce,
    record_transaction.group_id, record_transaction.purpose, record_transaction.number,
    decode(substr(record_transaction.raw, 3), 'hex')
  )
  on conflict do nothing;
  if found then
    return row(false)::bridge_result;
  end if;
  known := lock_transaction(chain_id, parse_address(sender), nonce);
  if (known.group_id, known.purpose, known.number) is distinct from (group_id, purpose, number) then
    perform refuse_mismatch('nonce', format('nonce %s of %s is that of another purpose', nonce, sender));
  end if;
  if known.raw = decode(substr(raw, 3), 'hex') then
    return row(true)::bridge_result;
  end if;
  if known.finished_at is not null then
    perform refuse_mismatch('nonce', format('the transaction with nonce %s of %s is finished', nonce, sender));
  end if;
  update bridge_transactions as t
  set
    raw = decode(substr(record_transaction.raw, 3), 'hex'),
    earlier = t.earlier || t.raw
  where t.chain_id = record_transaction.chain_id
    and t.sender = known.sender
    and t.nonce = record_transaction.nonce;
  return row(false)::bridge_result;
end
$$;

alter function ledger.record_transaction owner to ledger_owner;
comment on function ledger.record_transaction is
  'Record a signed transaction, 0x and hex digits, before it is sent, under its nonce; another one with the same nonce, group, purpose and number is its replacement. purpose is publish or withdraw, number the checkpoint. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.record_transaction from public;
grant execute on function ledger.record_transaction to ledger_bridge;
