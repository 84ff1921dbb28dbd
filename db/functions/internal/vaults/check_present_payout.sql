-- Check a payout to a participant who was present, against the checkpoint that an emergency pays.
create or replace function ledger_internal.check_present_payout(
  vault  ledger.vaults,
  payout ledger.payouts
) returns void
language plpgsql stable
as $$
declare
  leaf ledger.leaf;
begin
  if vault.emergency_number is null then
    perform ledger_internal.refuse_mismatch('exit_entry', format('group %s is not frozen: a payout needs an exit', vault.group_id));
  end if;
  if vault.emergency_number > 0 then
    leaf := ledger_internal.find_leaf(ledger_internal.find_checkpoint(vault.group_id, vault.emergency_number), payout.participant_id);
  end if;
  if (leaf.exit_entry is null and leaf.owner = ledger_internal.hex(payout.owner) and leaf.amount = payout.amount) is not true then
    perform ledger_internal.refuse_mismatch(
      'participant_id',
      format(
        'checkpoint %s of group %s has no leaf of participant %s with %s to %s',
        vault.emergency_number, vault.group_id, payout.participant_id, payout.amount, ledger_internal.format_address(payout.owner)
      )
    );
  end if;
end
$$;

alter function ledger_internal.check_present_payout owner to ledger_owner;
comment on function ledger_internal.check_present_payout is
  'Check that the vault has paid a participant who was present in the checkpoint that an emergency pays. Raises LG013.';
revoke execute on function ledger_internal.check_present_payout from public;
