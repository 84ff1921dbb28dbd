-- Credit a deposit into the vault of a group.
create or replace function ledger.credit_deposit(
  group_id      bigint,
  deposit_index bigint,
  address       text,
  amount        numeric,
  cumulative    numeric,
  transaction   text,
  block         bigint
) returns ledger.credit_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  vault    vaults;
  known    vault_deposits;
  reported vault_deposits;
  last     vault_deposits;
begin
  perform refuse_invalid(
    array['group_id', 'deposit_index', 'address', 'amount', 'cumulative', 'transaction', 'block'],
    array[
      invalid_id(group_id), invalid_number(deposit_index), invalid_address(address), invalid_amount(amount, 1),
      invalid_amount(cumulative, 1), invalid_chain_hash(transaction), invalid_number(block)
    ]
  );
  reported.group_id := group_id;
  reported.deposit_index := deposit_index;
  reported.address := parse_address(address);
  reported.amount := amount;
  reported.cumulative := cumulative;
  reported.transaction := parse_hex(transaction, 32);
  reported.block := block;

  vault := lock_vault(group_id);
  select d.*
  into known
  from vault_deposits as d
  where d.group_id = credit_deposit.group_id
    and d.deposit_index = credit_deposit.deposit_index;
  if found then
    if (known.address, known.amount, known.cumulative, known.transaction, known.block)
      is distinct from (reported.address, reported.amount, reported.cumulative, reported.transaction, reported.block)
    then
      perform refuse_mismatch('deposit_index', format('deposit %s of group %s was credited with other values', deposit_index, group_id));
    end if;
    return (known.participant_id, known.entry_id, true)::credit_result;
  end if;

  perform refuse_frozen(group_id);
  if vault.closed_at is not null then
    perform refuse_mismatch('group_id', format('the vault of group %s was closed, and takes no deposits', group_id));
  end if;
  select d.*
  into last
  from vault_deposits as d
  where d.group_id = credit_deposit.group_id
  order by d.deposit_index desc
  limit 1;
  if deposit_index <> coalesce(last.deposit_index + 1, 0) then
    perform refuse_mismatch('deposit_index', format('deposit %s of group %s comes after deposit %s', deposit_index, group_id, last.deposit_index));
  end if;
  if cumulative <> coalesce(last.cumulative, 0) + amount then
    perform refuse_mismatch(
      'cumulative',
      format('deposit %s of group %s makes %s, and not %s', deposit_index, group_id, coalesce(last.cumulative, 0) + amount, cumulative)
    );
  end if;
  reported := post_credit(group_id, null, reported);
  return (reported.participant_id, reported.entry_id, false)::credit_result;
end
$$;

alter function ledger.credit_deposit owner to ledger_owner;
comment on function ledger.credit_deposit is
  'Credit a deposit into the vault, the one after the last credited, counted from 0, to the participant present whose proved address it is, or to a new one. cumulative is the sum of all deposits up to it. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013, LG014.';
revoke execute on function ledger.credit_deposit from public;
grant execute on function ledger.credit_deposit to ledger_bridge;
