-- Check a payout in an emergency against the checkpoint that it pays.
create or replace function ledger_internal.check_emergency_leaf(
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
    leaf := ledger_internal.find_leaf(
      ledger_internal.find_checkpoint(vault.group_id, vault.emergency_number), payout.participant_id
    );
  end if;
  if (
    leaf.exit_entry is not distinct from case when payout.kind = 'exit' then payout.subject end
    and leaf.owner = ledger_internal.hex(payout.owner)
    and leaf.amount = payout.amount
  ) is not true then
    perform ledger_internal.refuse_mismatch(
      'participant_id',
      format(
        'checkpoint %s of group %s has no such leaf of participant %s with %s to %s',
        vault.emergency_number, vault.group_id, payout.participant_id, payout.amount,
        ledger_internal.format_address(payout.owner)
      )
    );
  end if;
end
$$;

alter function ledger_internal.check_emergency_leaf owner to ledger_owner;
comment on function ledger_internal.check_emergency_leaf is
  'Check that what the vault paid in an emergency is a leaf of the checkpoint that this pays. Raises LG013.';
revoke execute on function ledger_internal.check_emergency_leaf from public;
