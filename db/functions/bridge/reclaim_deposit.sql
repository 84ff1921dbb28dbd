-- Record a deposit that the vault returned in an emergency.
create or replace function ledger.reclaim_deposit(
  group_id      bigint,
  deposit_index bigint,
  owner         text,
  amount        numeric,
  transaction   text,
  block         bigint
) returns ledger.payout_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault    vaults;
  payout   payouts;
  credited vault_deposits;
  included bigint;
begin
  perform refuse_invalid(
    array['group_id', 'deposit_index', 'owner', 'amount', 'transaction', 'block'],
    array[
      invalid_id(group_id), invalid_number(deposit_index), invalid_address(owner), invalid_amount(amount, 1),
      invalid_chain_hash(transaction), invalid_number(block)
    ]
  );
  vault := lock_vault(group_id);
  payout.group_id := group_id;
  payout.kind := 'reclaim';
  payout.subject := deposit_index;
  payout.owner := parse_address(owner);
  payout.amount := amount;
  payout.transaction := parse_hex(transaction, 32);
  payout.block := block;
  if payout_is_known(payout) then
    return (group_id, 'reclaim', deposit_index, null, null, format_address(payout.owner), amount, true)::payout_result;
  end if;

  if vault.emergency_number is null then
    perform refuse_mismatch('group_id', format('group %s is not frozen: its deposits are not returned', group_id));
  end if;
  included := coalesce(
    (
      select c.deposits
      from checkpoints as c
      where c.group_id = reclaim_deposit.group_id
        and c.number = vault.emergency_number
    ),
    0
  );
  if deposit_index < included then
    perform refuse_mismatch('deposit_index', format('checkpoint %s of group %s includes deposit %s', vault.emergency_number, group_id, deposit_index));
  end if;
  select d.*
  into credited
  from vault_deposits as d
  where d.group_id = reclaim_deposit.group_id
    and d.deposit_index = reclaim_deposit.deposit_index;
  if found and (credited.address, credited.amount) is distinct from (payout.owner, payout.amount) then
    perform refuse_mismatch('amount', format('deposit %s of group %s was credited with other values', deposit_index, group_id));
  end if;
  perform add_payout(payout);
  return (group_id, 'reclaim', deposit_index, null, null, format_address(payout.owner), amount, false)::payout_result;
end
$$;

alter function ledger.reclaim_deposit owner to ledger_owner;
comment on function ledger.reclaim_deposit is
  'Record that the vault returned a deposit in an emergency, one that the last ripe checkpoint does not include. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.reclaim_deposit from public;
grant execute on function ledger.reclaim_deposit to ledger_bridge;
