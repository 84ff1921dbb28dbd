-- Settle an exit that the vault has paid.
create or replace function ledger.settle_payout(
  group_id       bigint,
  participant_id bigint,
  exit_entry     bigint,
  owner          text,
  amount         numeric,
  transaction    text,
  block          bigint,
  log            bigint
) returns ledger.payout_result
language plpgsql volatile security definer
set search_path = ledger, ledger_internal, pg_temp
as $$
declare
  without boolean := amount = 0 and transaction is null;
  vault   vaults;
  payout  payouts;
begin
  perform refuse_invalid(
    array['group_id', 'participant_id', 'owner', 'amount', 'transaction', 'block', 'log'],
    array[
      invalid_id(group_id), invalid_id(participant_id), invalid_address(owner), invalid_amount(amount, 0),
      case when not without then invalid_chain_hash(transaction) end, case when not without then invalid_number(block) end,
      case when not without then invalid_number(log) end
    ]
  );
  vault := lock_vault(group_id);
  payout.group_id := group_id;
  payout.kind := case when exit_entry is null then 'present' else 'exit' end;
  payout.subject := coalesce(exit_entry, participant_id);
  payout.participant_id := participant_id;
  payout.owner := parse_address(owner);
  payout.amount := amount;
  payout.transaction := parse_hex(transaction, 32);
  payout.block := block;
  payout.log := log;
  if payout_is_known(payout) then
    return (group_id, payout.kind, payout.subject, participant_id, exit_entry, format_address(payout.owner), amount, true)::payout_result;
  end if;

  if exit_entry is null then
    perform check_emergency_leaf(vault, payout);
  else
    perform settle_paid_exit(vault, payout);
  end if;
  perform add_payout(payout);
  return (group_id, payout.kind, payout.subject, participant_id, exit_entry, format_address(payout.owner), amount, false)::payout_result;
end
$$;

alter function ledger.settle_payout owner to ledger_owner;
comment on function ledger.settle_payout is
  'Record that the vault paid a leaf: settle the exit, of which every value must agree; in an emergency also that of a participant who was present in the last ripe checkpoint, with a null exit_entry. An exit of 0 needs no transaction. The same again changes nothing, and replayed is true. Raises LG001, LG002, LG013.';
revoke execute on function ledger.settle_payout from public;
grant execute on function ledger.settle_payout to ledger_bridge;
